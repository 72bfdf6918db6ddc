"""What the model of a run is for, and the errors for a verb that asks it for something else."""

from mtrain.config.data import ContextConfig
from mtrain.config.run import Config
from mtrain.errors import UserError


def check_translates(config: Config) -> None:
    """Raise UserError if the model of a run does not translate."""
    if config.learns_from_text:
        raise not_a_translator(config)


def not_a_translator(config: Config) -> UserError:
    """Return the error for a model that is asked to translate and cannot."""
    run = config.run_dir
    return UserError(
        f"{run}: this is a {config.model.type} model, which fills masked tokens and does not "
        "translate",
        f"mtrain fill {run}; to translate, train a model that starts from it: "
        f"model: {{type: transformer, init_from: {run}}}",
    )


def check_fills(config: Config) -> None:
    """Raise UserError if the model of a run does not fill masked tokens."""
    if not config.learns_from_text:
        run = config.run_dir
        raise UserError(
            f"{run}: this is a {config.model.type} model, which translates and does not fill "
            "masked tokens",
            f"mtrain translate {run}; to fill, train a model with training.objective: masked_lm "
            "and model.type: bert",
        )


def require_context(config: Config) -> ContextConfig:
    """Return how the model of a run has learnt documents. Raises UserError if it has not."""
    context = config.data.context
    if context is None:
        raise UserError(
            f"{config.run_dir}: this model has learnt sentences alone, no documents",
            "translate line by line, or train one with data.context and corpora that name their "
            "`documents`",
        )
    return context

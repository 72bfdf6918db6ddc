"""The model of a run with the weights of one of its checkpoints."""

from pathlib import Path

from mtrain.checkpoints.collection import list_checkpoints, load_last_whole, order_by_quality
from mtrain.checkpoints.format import Checkpoint, load_checkpoint
from mtrain.checkpoints.weights import put_weights
from mtrain.config import Config
from mtrain.config.corpora import Languages
from mtrain.data.folders import RunFolder
from mtrain.errors import UserError
from mtrain.models import Model, build_model
from mtrain.nn.initialisation import UninitialisedWeights
from mtrain.runtime.precision import Precision, choose_precision
from mtrain.text.protection import Protection
from mtrain.text.tokenizer import TokenizerPair


def load_model(
    run: RunFolder, config: Config, checkpoint_name: str | None, feature_width: int = 0
) -> tuple[TokenizerPair, Model, Precision, Path]:
    """Return a run's tokenizers, its model on its device, and where the weights come from.

    They are those of the best checkpoint, or of one that is named; `feature_width` is that of the
    features which the model reads. Raises `UserError` if there is no checkpoint, or if it was
    trained with another tokenizer, or if that cannot protect what `data.protect` lists.
    """
    tokenizers = run.tokenizers()
    if checkpoint_name and run.checkpoint_name not in (None, checkpoint_name):
        raise UserError(
            f"{run.path}: two checkpoints are named, {run.checkpoint_name} and {checkpoint_name}",
            "name one of them",
        )
    checkpoint = _choose(run, config, checkpoint_name or run.checkpoint_name)
    if checkpoint.state["identity"]["tokenizers"] != tokenizers.digest():
        raise UserError(
            f"{run.path / 'tokenizer'}: not the tokenizer that {checkpoint.path} was trained with",
            "restore the tokenizer folder from the original run",
        )
    precision = choose_precision(config.decoding.precision, config.device)
    sizes = tokenizers.source.vocab_size, tokenizers.target.vocab_size
    with UninitialisedWeights():
        model = build_model(config, *sizes, feature_width)
    put_weights(model, checkpoint.weights, str(checkpoint.path))
    model.to(precision.device).eval()
    protecting = tokenizers.protecting(Protection.of(config.data.protect))
    return protecting, model, precision, checkpoint.path


def languages_of_text(config: Config) -> Languages:
    """Return the languages whose prefixes the texts of a model of texts have; "" is any.

    Raises `UserError` if the prefixes name a language, and none is chosen.
    """
    tokenizer = config.tokenizer
    names_one = tokenizer.names("source") or tokenizer.names("target")
    return config.languages if names_one else ("", "")


def _choose(run: RunFolder, config: Config, name: str | None) -> Checkpoint:
    paths = list_checkpoints(run.checkpoints)
    known = ", ".join(path.name for path in paths)
    if name is not None:
        if run.checkpoints / name not in paths:
            raise UserError(f"{run.path}: there is no checkpoint {name}", f"there are: {known}")
        return load_checkpoint(run.checkpoints / name, with_training=False)
    best_last = order_by_quality(paths, config.training.valid_metric)
    checkpoint = load_last_whole(best_last, with_training=False)
    if checkpoint is None:
        raise UserError(
            f"{run.path}: there is no checkpoint yet", "train first: mtrain train CONFIG.yaml"
        )
    return checkpoint

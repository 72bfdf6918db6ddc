"""From a run folder to a translator: what `translate` and `score` begin with."""

from mtrain.config import Config
from mtrain.console import say
from mtrain.data.folders import RunFolder
from mtrain.decoding.translator import Translator
from mtrain.errors import UserError
from mtrain.models import build_model
from mtrain.training.checkpoint import (
    Checkpoint,
    list_checkpoints,
    load_checkpoint,
    load_last_whole,
    order_by_quality,
)
from mtrain.training.precision import choose_precision
from mtrain.training.saving import put_weights


def load_translator(run: RunFolder, config: Config, checkpoint_name: str | None) -> Translator:
    """Return a translator with the run's best checkpoint, or the one named."""
    tokenizers = run.tokenizers()
    checkpoint = _choose(run, config, checkpoint_name)
    if checkpoint.state["identity"]["tokenizers"] != tokenizers.digest():
        raise UserError(
            f"{run.path / 'tokenizer'}: not the tokenizer that {checkpoint.path} was trained with",
            "restore the tokenizer folder from the original run",
        )
    precision = choose_precision(config.training.precision, config.device)
    model = build_model(config, tokenizers)
    put_weights(model, checkpoint.weights, str(checkpoint.path))
    model.to(precision.device)
    say(f"translating with {checkpoint.path} on {precision.device} in {precision.name}")
    return Translator(
        model, tokenizers, config.decoding, precision.device, precision.autocast, config.seed
    )


def _choose(run: RunFolder, config: Config, name: str | None) -> Checkpoint:
    paths = list_checkpoints(run.checkpoints)
    known = ", ".join(path.name for path in paths)
    if name is not None:
        if run.checkpoints / name not in paths:
            raise UserError(f"{run.path}: there is no checkpoint {name}", f"there are: {known}")
        return load_checkpoint(run.checkpoints / name)
    checkpoint = load_last_whole(order_by_quality(paths, config.training.valid_metric))
    if checkpoint is None:
        raise UserError(
            f"{run.path}: there is no checkpoint yet", "train first: mtrain train CONFIG.yaml"
        )
    return checkpoint

"""From a run folder to its model, ready to translate or to be shown; reads no optimiser state."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mtrain.checkpoints.collection import list_checkpoints, load_last_whole, order_by_quality
from mtrain.checkpoints.format import Checkpoint, load_checkpoint
from mtrain.checkpoints.weights import put_weights
from mtrain.config import Config
from mtrain.console import say
from mtrain.data.folders import RunFolder
from mtrain.decoding.engine import Engine, TorchEngine
from mtrain.decoding.forced import ForcedDecoder, IdPair
from mtrain.decoding.translator import Translator
from mtrain.errors import UserError, missing_extra
from mtrain.models import TranslationModel, alignment_head, build_model
from mtrain.nn.prepacked import has_recurrent_layers, prepacked
from mtrain.runtime.onednn import multiply_with_mkl
from mtrain.runtime.precision import Precision, choose_precision
from mtrain.text.tokenizer import TokenizerPair, available_cores


@dataclass(frozen=True)
class LoadedRun:
    """A run's model with what belongs to it. Nothing here changes the model."""

    config: Config
    tokenizers: TokenizerPair
    model: TranslationModel
    precision: Precision
    checkpoint: Path

    def translator(self) -> Translator:
        """Return a translator with the engine that the configuration names."""
        decoding = self.config.decoding
        engine = self._torch_engine() if decoding.engine == "torch" else self._ctranslate2_engine()
        return Translator(engine, self.tokenizers, decoding.n_best)

    def _torch_engine(self) -> Engine:
        model = self.model
        if self.precision.prepacks_weights:
            model = prepacked(model)
            if not has_recurrent_layers(model):
                multiply_with_mkl()
        return TorchEngine(
            model,
            self.tokenizers,
            self.config.decoding,
            self.precision.device,
            self.precision.autocast,
            self.config.seed,
            alignment_head(self.config),
        )

    def _ctranslate2_engine(self) -> Engine:
        if find_spec("ctranslate2") is None:
            purpose = f"decoding.engine: {self.config.decoding.engine}"
            raise missing_extra("ctranslate2", "ctranslate2", purpose)
        from mtrain.exchange.ctranslate2 import open_engine

        return open_engine(
            self.model,
            self.config,
            self.tokenizers,
            self.precision.device,
            self.precision.name,
            self.checkpoint,
        )

    def forced_decoder(self) -> ForcedDecoder:
        """Return what leads the model through given translations."""
        device, autocast = self.precision.device, self.precision.autocast
        batch_tokens = self.config.decoding.tokens_at_once(device.type)
        head = alignment_head(self.config)
        return ForcedDecoder(self.model, self.tokenizers, device, autocast, batch_tokens, head)

    def encode_pairs(
        self, sources: Sequence[str], targets: Sequence[str]
    ) -> list[Sequence[IdPair]]:
        """Return the ids of each pair of cleaned lines, as one segment.

        A pair with an empty side has none.
        """
        cores = available_cores()
        source_ids = self.tokenizers.source.encode(sources, cores)
        target_ids = self.tokenizers.target.encode(targets, cores)
        return [[pair] if all(pair) else [] for pair in zip(source_ids, target_ids, strict=True)]


def load_run(run: RunFolder, config: Config, checkpoint_name: str | None) -> LoadedRun:
    """Return the run's model with its best checkpoint, or the one named.

    Raises `UserError` if there is none, or if tokenizer and checkpoint do not belong together.
    """
    tokenizers = run.tokenizers()
    checkpoint = _choose(run, config, checkpoint_name)
    if checkpoint.state["identity"]["tokenizers"] != tokenizers.digest():
        raise UserError(
            f"{run.path / 'tokenizer'}: not the tokenizer that {checkpoint.path} was trained with",
            "restore the tokenizer folder from the original run",
        )
    precision = choose_precision(config.training.precision, config.device)
    model = build_model(config, tokenizers.source.vocab_size, tokenizers.target.vocab_size)
    put_weights(model, checkpoint.weights, str(checkpoint.path))
    model.to(precision.device).eval()
    say(f"using {checkpoint.path} on {precision.device} in {precision.name}")
    return LoadedRun(config, tokenizers, model, precision, checkpoint.path)


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

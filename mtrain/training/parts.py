"""Builds what training consists of from a configuration and its data: the one place that does."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from mtrain.config.schema import Config
from mtrain.data.batches import BatchMaker, PlannedUpdate, planned_updates
from mtrain.data.folders import DataFolder, read_held_out
from mtrain.data.packing import PackedMaker
from mtrain.data.plan import derive_seed
from mtrain.data.store import TokenStore
from mtrain.decoding.engine import TorchEngine
from mtrain.decoding.translator import Translator
from mtrain.errors import UserError
from mtrain.models import Head, Model, aligning_head, build_model
from mtrain.text.tokenizer import TokenizerPair
from mtrain.training.distributed import ProcessGroup
from mtrain.training.precision import Precision, choose_precision
from mtrain.training.updater import Updater
from mtrain.training.validation import Validator


@dataclass(frozen=True)
class Parts:
    """A model that has learnt nothing yet, and everything it learns with."""

    config: Config
    group: ProcessGroup
    precision: Precision
    tokenizers: TokenizerPair
    store: TokenStore
    maker: BatchMaker
    model: Model
    updater: Updater
    validator: Validator

    @property
    def identity(self) -> dict[str, str]:
        """What a checkpoint must agree on to be gone on with."""
        return {"store": self.store.fingerprint, "tokenizers": self.tokenizers.digest()}

    def updates(self, epoch: int, batch: int) -> Iterator[PlannedUpdate]:
        """Yield this process's share of each update from a place in the plan on."""
        training = self.config.training
        planned = planned_updates(
            self.maker,
            self.config.seed,
            training.accumulate,
            (epoch, batch),
            (self.group.rank, self.group.size),
        )
        if self.precision.device.type == "cuda":
            planned = (replace(update, batches=[batch.pinned() for batch in update.batches])
                       for update in planned)  # fmt: skip
        return planned


def build_parts(config: Config, data: DataFolder, group: ProcessGroup) -> Parts:
    """Build everything on its device; the same seed gives the same weights everywhere."""
    training = config.training
    if training.accumulate % group.size:
        raise UserError(
            f"training.accumulate {training.accumulate} batches cannot be shared evenly by "
            f"{group.size} processes",
            f"set training.accumulate to a multiple of {group.size}",
        )
    precision = choose_precision(training.precision, config.device)
    tokenizers = data.tokenizers()
    store, valid_store = data.store("train"), data.store("valid")
    torch.manual_seed(derive_seed(config.seed, "weights"))
    sizes = tokenizers.source.vocab_size, tokenizers.target.vocab_size
    model = build_model(config, *sizes).to(precision.device)
    head = aligning_head(config)
    if head != Head() or config.decoding.coverage_penalty:
        model.layer_of(head)  # which refuses now, not at the first validation
    maker = _batch_maker(config, store, tokenizers, model, precision.device.type == "cuda")
    engine = TorchEngine(
        model, tokenizers, config.decoding, precision.device, precision.autocast, config.seed,
        head,
    )  # fmt: skip
    validator = Validator(
        BatchMaker(valid_store, tokenizers, config.model.max_positions, training.batch_tokens),
        read_held_out(data.path / "text", "valid"),
        Translator(engine, tokenizers, config.decoding.n_best),
        precision,
        config.data.target_lang,
    )
    updater = Updater(model, training, precision, group, config.seed, head)
    return Parts(config, group, precision, tokenizers, store, maker, model, updater, validator)


def _batch_maker(
    config: Config, store: TokenStore, tokenizers: TokenizerPair, model: Model, on_gpu: bool
) -> BatchMaker:
    """Return a maker of packed batches for a GPU, where model and data let it."""
    training = config.training
    limits = config.model.max_positions, training.batch_tokens
    if on_gpu and model.reads_packed and not training.subword_sampling and store.links is None:
        return PackedMaker(store, tokenizers, *limits)
    return BatchMaker(store, tokenizers, *limits, training.subword_sampling)

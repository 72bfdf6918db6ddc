"""Trains on the small task in the test's own process, to test what the command line hides."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from mtrain.commands.prepare import prepare
from mtrain.commands.train import train
from mtrain.config import Config
from mtrain.data.batch import PairBatch
from mtrain.data.folders import DataFolder, RunFolder
from mtrain.distributed.group import ProcessGroup
from mtrain.models import TranslationModel
from mtrain.runtime.onednn import can_multiply_bf16, can_prepack
from mtrain.runtime.precision import choose_precision
from mtrain.training.build import Setup, build_setup
from mtrain.training.learner import build_learner
from mtrain.training.objectives import build_objective
from mtrain.training.saving import Saver
from mtrain.training.state import TrainState
from mtrain.training.updater import Updater, UpdateResult
from mtrain.training.validation import Validation
from tests.conftest import write_task

# it multiplies on AMD, but not where it would round, which it does by AMX
ONEDNN_IS_EXACT = can_prepack() and not torch.cpu._is_amx_tile_supported()
needs_bf16 = pytest.mark.skipif(not can_multiply_bf16(), reason="this CPU has no bf16")
LOWEST = "bf16" if can_multiply_bf16() else "fp32"  # precision that this CPU has
BOS_ID, EOS_ID = 2, 3  # as in the tokenizers that mtrain trains

SMALL_MODEL = {
    "encoder_layers": 1,
    "decoder_layers": 1,
    "d_model": 16,
    "num_heads": 2,
    "ffn_dim": 32,
    "max_positions": 40,
}
SMALL_TRAINING = {
    "precision": "fp32",  # what auto is depends on the machine
    "batch_tokens": 128,
    "max_updates": 12,
    "learning_rate": 3e-3,
    "warmup_updates": 4,
    "valid_every": 4,
    "log_every": 1,
}


def prepare_small_task(folder: Path, normalization: str = "identity") -> Path:
    """Prepare the small task in a folder that any number of runs can train on."""
    write_task(folder, {"train": 300, "valid": 12, "test": 12})
    tokenizer = {"vocab_size": 320, "normalization": normalization}
    prepare(small_config(folder, folder / "run", tokenizer=tokenizer))
    return folder


def small_config(
    folder: Path,
    run_dir: Path,
    training: dict[str, Any] | None = None,
    model: dict[str, Any] | None = None,
    **keys: Any,
) -> Config:
    """Return a configuration for the task in `folder`, prepared or about to be."""

    def pair(split: str) -> dict[str, Path]:
        return {"source": folder / f"{split}.digits", "target": folder / f"{split}.words"}

    tree = {
        "run_dir": run_dir,
        "data_dir": folder / "data",
        "data": {
            "source_lang": "digits",
            "target_lang": "words",
            "train": [pair("train")],
            "valid": [pair("valid")],
            "test": [pair("test")],
            "filters": {"max_tokens": 40},
        },
        "device": "cpu",
        "tokenizer": {"vocab_size": 320},
        "model": model or SMALL_MODEL,
        "training": {**SMALL_TRAINING, **(training or {})},
        "decoding": {"beam_size": 2},
    }
    return Config.model_validate({**tree, **keys})


def open_setup(config: Config, group: ProcessGroup | None = None) -> Setup:
    """Build what trains, for this process alone or as one of a group."""
    return build_setup(config, DataFolder(config.data_path), group or ProcessGroup())


def open_run(config: Config) -> tuple[Setup, RunFolder]:
    """Build what trains, and the folder that it writes into."""
    run = RunFolder(config.run_dir)
    run.begin(config, DataFolder(config.data_path))
    return open_setup(config), run


def open_saver(setup: Setup, run: RunFolder, group: ProcessGroup | None = None) -> Saver:
    """Return what saves and resumes a training."""
    group = group or ProcessGroup.alone()
    config = setup.config
    return Saver(
        setup.state, run.checkpoints, config.training, config.decoding, setup.identity, group
    )


def save_run(setup: Setup, run: RunFolder, validation: Validation | None = None) -> None:
    """Save a training, and return when it is on disk."""
    with open_saver(setup, run) as saver:
        saver.save(validation)


@dataclass(frozen=True)
class Learner:
    """A model that is updated by itself, without a plan."""

    state: TrainState
    updater: Updater
    group: ProcessGroup

    @property
    def model(self) -> TranslationModel:
        """The model that learns."""
        assert isinstance(self.state.model, TranslationModel)
        return self.state.model

    def update(
        self,
        number: int,
        batches: Sequence[PairBatch],
        learning_rate: float,
        before_batch: Callable[[], None] = lambda: None,
    ) -> UpdateResult:
        """Learn from this process's share of an update."""
        own = sum(batch.num_target_tokens for batch in batches)
        num_tokens = int(sum(count for (count,) in self.group.share(own)))
        return self.updater.update(number, batches, num_tokens, learning_rate, before_batch)


def make_learner(
    model: TranslationModel, training: dict[str, Any] | None = None, device: str = "cpu"
) -> Learner:
    """Return what updates a model by the given keys of `training`."""
    config = small_config(Path("no-task"), Path("no-run"), training)
    precision = choose_precision(config.training.precision, device, size=config.product_size)
    group, objective = ProcessGroup(), build_objective(config, precision)
    state, step = build_learner(model, objective, config.training, precision, group, True)
    return Learner(state, Updater(state, step, group, config.seed), group)


def learn(
    setup: Setup,
    until: int,
    learning_rate: float = 3e-3,
    group: ProcessGroup | None = None,
) -> list[UpdateResult]:
    """Update to a number of updates, without validating."""
    results, position = [], setup.state.position
    learner = Learner(setup.state, setup.updater, group or ProcessGroup())
    feed = setup.updates(position.stage, position.epoch, position.batch)
    while position.update < until:
        planned = next(feed)
        results.append(learner.update(position.update, planned.batches, learning_rate))
        position.update += 1
        position.epoch, position.batch = planned.next_epoch, planned.next_batch
    return results


def run_in_two_sittings(config: Config, first: int, last: int) -> Setup:
    """Update `first` times, save, resume in a new setup, and continue to `last` updates."""
    setup, run = open_run(config)
    learn(setup, first)
    save_run(setup, run)
    setup, run = open_run(config)
    open_saver(setup, run).resume()
    assert setup.state.position.update == first
    learn(setup, last)
    return setup


def assert_same_state(one: Setup, other: Setup) -> None:
    """Compare all that a resume needs, bit for bit."""
    for ours, theirs in (
        (one.state.weights, other.state.weights),
        (one.state.tensors(), other.state.tensors()),
    ):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def make_batch(
    lengths: Sequence[tuple[int, int]], source_vocab: int, target_vocab: int, seed: int = 1
) -> PairBatch:
    """Return random pairs of the lengths (source, target), end marks included."""
    generator = torch.Generator().manual_seed(seed)
    source_lengths, target_lengths = torch.tensor(lengths).T.contiguous()

    def ids(vocab_size: int, side_lengths: torch.Tensor) -> torch.Tensor:
        shape = (len(lengths), int(side_lengths.max()))
        tokens = torch.randint(EOS_ID + 1, vocab_size, shape, generator=generator)
        is_text = torch.arange(shape[1]) < side_lengths[:, None] - 1
        return torch.where(is_text, tokens, EOS_ID)

    target_out = ids(target_vocab, target_lengths)
    starts = torch.full((len(lengths), 1), BOS_ID)
    return PairBatch(
        source=ids(source_vocab, source_lengths),
        source_lengths=source_lengths,
        target_in=torch.cat([starts, target_out[:, :-1]], dim=1),
        target_out=target_out,
        target_lengths=target_lengths,
        num_target_tokens=int(target_lengths.sum()),
    )


def real_places(batch: PairBatch) -> torch.Tensor:
    """Return where (B,T) a batch's target is no padding."""
    return torch.arange(batch.target_in.shape[1]) < batch.target_lengths[:, None]


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch have so many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def number_in_a_new_thread() -> int:
    """Return how many threads torch would use in a thread that is yet to come."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


def train_small_bert(task: Path, run_dir: Path, seed: int = 1) -> Path:
    """Train a BERT of two layers on a task's texts, for one update; return its run folder.

    It reads 8 tokens at once.
    """

    def text(split: str, side: str = "digits") -> dict[str, str]:
        return {"text": str(task / f"{split}.{side}"), "lang": side, "name": f"{split}-{side}"}

    tree = {
        "run_dir": run_dir,
        "data": {"train": [text("train"), text("train", "words")], "valid": [text("valid")],
                 "filters": {"max_tokens": 8}},
        "device": "cpu",
        "seed": seed,
        "tokenizer": {"vocab_size": 300},
        "model": {"type": "bert", "encoder_layers": 2, "d_model": 24, "num_heads": 2,
                  "ffn_dim": 32, "max_positions": 8},
        "training": {"objective": "masked_lm", "precision": "fp32", "batch_tokens": 128,
                     "max_updates": 1, "warmup_updates": 1, "valid_every": 1},
    }  # fmt: skip
    config = Config.model_validate(tree)
    prepare(config)
    train(config)
    return run_dir

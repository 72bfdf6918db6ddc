"""A dry run: computes the largest planned batch, times a few updates and extrapolates.

Changes nothing on disk. Discard the model afterwards: the timed updates change it.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mtrain.config.training import TrainingConfig
from mtrain.data.batch import Batch
from mtrain.data.makers.base import Maker
from mtrain.data.store import IntArray
from mtrain.data.updates import PlannedUpdate
from mtrain.distributed.group import ProcessGroup
from mtrain.runtime.memory import peak_memory
from mtrain.training.state import TrainState
from mtrain.training.updater import Updater, UpdateResult
from mtrain.training.validation import Scorer, Validator

TIMED_UPDATES = 5
VALIDATION_SENTENCES = 100


@dataclass(frozen=True)
class Forecast:
    """Estimated time, memory and disk space of a training run."""

    largest_batch: str
    about: Mapping[str, str]  # lines about the model by their titles
    peak_memory: float  # GB
    seconds_per_update: float
    tokens_per_second: float
    predicted: str  # target or masked: what these tokens are
    seconds_per_validation: float  # watch sets included
    seconds_for_watch: float  # of them, for the watch sets
    hours: float
    updates: int
    epochs: float
    checkpoint_size: float  # GB
    copied_size: float  # GB, of the BERT whose states the model reads
    disk_needed: float  # GB
    disk_free: float  # GB

    @property
    def fits_on_disk(self) -> bool:
        """Whether the disk has room for what the run will hold."""
        return self.disk_needed < self.disk_free

    def __str__(self) -> str:
        return "\n".join(
            (
                f"largest batch      {self.largest_batch}",
                *(f"{title:<19}{line}" for title, line in self.about.items()),
                f"peak memory        {self.peak_memory:.2f} GB",
                f"an update          {self.seconds_per_update:.3f} s, "
                f"{self.tokens_per_second:,.0f} {self.predicted} tokens/s",
                f"a validation       {self.seconds_per_validation:.1f} s"
                + (
                    f", {self.seconds_for_watch:.1f} s for data.watch"
                    if self.seconds_for_watch
                    else ""
                ),
                f"training           {self.updates:,} updates, {self.epochs:.1f} epochs, "
                f"{self.hours:.2f} hours",
                f"disk               {self.disk_needed:.2f} GB for checkpoints of "
                f"{self.checkpoint_size:.2f} GB"
                + (
                    f" and a copy of the BERT of {self.copied_size:.2f} GB"
                    if self.copied_size
                    else ""
                )
                + f", {self.disk_free:.1f} GB free"
                + ("" if self.fits_on_disk else ": NOT ENOUGH"),
            )
        )


class Forecaster:
    """Times a few updates and a part of a validation, and extrapolates."""

    def __init__(
        self,
        config: TrainingConfig,
        maker: Maker,
        plan: list[IntArray],
        state: TrainState,
        updater: Updater,
        validator: Validator,
        updates: Callable[[int, int, int], Iterator[PlannedUpdate]],
        group: ProcessGroup,
        device: torch.device,
        about: Mapping[str, str],
    ) -> None:
        self._config = config
        self._about = about
        self._maker = maker
        self._plan = plan
        self._state = state
        self._updater = updater
        self._validator = validator
        self._updates = updates
        self._group = group
        self._device = device
        self._rate = config.learning_rate / 100  # small: the updates are for timing only

    def forecast(self, run_dir: Path, copied_bytes: int = 0) -> Forecast:
        """Return the forecast; all but the memory is the same on every process.

        `copied_bytes` is what the run will hold beside its checkpoints.
        """
        config = self._config
        largest = self._maker.largest(self._plan)
        self._update(0, [largest])
        seconds, num_tokens = self._time_updates()
        for_watch = sum(map(self._time_scoring, self._validator.watch.values()))
        validation = self._time_scoring(self._validator.valid) + for_watch
        updates = config.max_updates
        hours = (updates * seconds + updates / config.valid_every * validation) / 3600
        if config.max_minutes is not None and hours * 60 > config.max_minutes:
            updates = int(updates * config.max_minutes / (hours * 60))
            hours = config.max_minutes / 60
        size = self._checkpoint_bytes() / 1e9
        copy = size if self._device.type == "cpu" else 0.0  # of a checkpoint while it is written
        existing = next(path for path in (run_dir, *run_dir.resolve().parents) if path.exists())
        return Forecast(
            largest_batch=str(largest),
            about=self._about,
            peak_memory=peak_memory(self._device) / 1e9 + copy,
            seconds_per_update=seconds,
            tokens_per_second=num_tokens / seconds,
            predicted=config.predicted,
            seconds_per_validation=validation,
            seconds_for_watch=for_watch,
            hours=hours,
            updates=updates,
            epochs=updates * config.accumulate / len(self._plan),
            checkpoint_size=size,
            copied_size=copied_bytes / 1e9,
            # while one is written, there is one more than is kept
            disk_needed=size * (config.keep_best + config.keep_last + 1) + copied_bytes / 1e9,
            disk_free=shutil.disk_usage(existing).free / 1e9,
        )

    def _update(self, number: int, batches: Sequence[Batch]) -> UpdateResult:
        own = sum(batch.num_target_tokens for batch in batches)
        num_tokens = int(sum(count for (count,) in self._group.share(own)))
        return self._updater.update(number, batches, num_tokens, self._rate)

    def _time_updates(self) -> tuple[float, float]:
        """Return the mean seconds and target tokens of an update, without the first."""
        seconds, tokens = [], []
        for number, planned in zip(range(TIMED_UPDATES + 1), self._updates(0, 0, 0), strict=False):
            started = time.perf_counter()
            result = self._update(number, planned.batches)
            seconds.append(time.perf_counter() - started)
            tokens.append(result.num_tokens)
        return float(np.mean(seconds[1:])), float(np.mean(tokens[1:]))

    def _time_scoring(self, scorer: Scorer) -> float:
        """Return the seconds of scoring a set, extrapolated from some of its sentences.

        Overestimates, because an untrained model decodes up to the length limit.
        """
        started = time.perf_counter()
        with self._state.whole_model({}) as model:
            share = scorer.score_some(model, VALIDATION_SENTENCES)
        return (time.perf_counter() - started) / share / self._group.size

    def _checkpoint_bytes(self) -> int:
        tensors = [*self._state.weights.values(), *self._state.tensors().values()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

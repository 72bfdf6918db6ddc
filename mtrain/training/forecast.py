"""A dry run: the largest planned batch and a few timed updates, and what they foretell.

Changes nothing on disk. The model that it trains a little is thrown away.
"""

import resource
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mtrain.data.batches import Batch
from mtrain.training.optimizer import optimizer_tensors
from mtrain.training.parts import Parts

TIMED_UPDATES = 5
VALIDATION_SENTENCES = 100


@dataclass(frozen=True)
class Forecast:
    """What training will take."""

    largest_batch: str
    peak_memory: float  # GB
    seconds_per_update: float
    tokens_per_second: float
    seconds_per_validation: float
    hours: float
    updates: int
    epochs: float
    checkpoint_size: float  # GB
    disk_needed: float  # GB
    disk_free: float  # GB

    @property
    def fits_on_disk(self) -> bool:
        """Whether the checkpoints have room."""
        return self.disk_needed < self.disk_free

    def __str__(self) -> str:
        return "\n".join(
            (
                f"largest batch      {self.largest_batch}",
                f"peak memory        {self.peak_memory:.2f} GB",
                f"an update          {self.seconds_per_update:.3f} s, "
                f"{self.tokens_per_second:,.0f} target tokens/s",
                f"a validation       {self.seconds_per_validation:.1f} s",
                f"training           {self.updates:,} updates, {self.epochs:.1f} epochs, "
                f"{self.hours:.2f} hours",
                f"disk               {self.disk_needed:.2f} GB for checkpoints of "
                f"{self.checkpoint_size:.2f} GB, {self.disk_free:.1f} GB free"
                + ("" if self.fits_on_disk else ": NOT ENOUGH"),
            )
        )


def forecast(parts: Parts, run_dir: Path) -> Forecast:
    """Run a little of the training and extrapolate."""
    training = parts.config.training
    plan = parts.maker.plan(parts.config.seed, 0)
    largest = parts.maker.largest(plan)
    rate = training.learning_rate / 100  # small: this is no training
    parts.updater.update(0, [largest], rate)
    seconds, num_tokens = _time_updates(parts, rate)
    validation = _time_validation(parts)
    updates = training.max_updates
    hours = (updates * seconds + updates / training.valid_every * validation) / 3600
    if training.max_minutes is not None and hours * 60 > training.max_minutes:
        updates = int(updates * training.max_minutes / (hours * 60))
        hours = training.max_minutes / 60
    size = _checkpoint_bytes(parts) / 1e9
    existing = next(path for path in (run_dir, *run_dir.resolve().parents) if path.exists())
    return Forecast(
        largest_batch=_describe(largest),
        peak_memory=peak_memory(parts.precision.device) / 1e9,
        seconds_per_update=seconds,
        tokens_per_second=num_tokens / seconds,
        seconds_per_validation=validation,
        hours=hours,
        updates=updates,
        epochs=updates * training.accumulate / len(plan),
        checkpoint_size=size,
        # one more than is kept stands while it is written
        disk_needed=size * (training.keep_best + training.keep_last + 1),
        disk_free=shutil.disk_usage(existing).free / 1e9,
    )


def _time_updates(parts: Parts, rate: float) -> tuple[float, float]:
    """Return the mean seconds and target tokens of an update, the first left out."""
    seconds, tokens = [], []
    for number, planned in zip(range(TIMED_UPDATES + 1), parts.updates(0, 0), strict=False):
        started = time.perf_counter()
        result = parts.updater.update(number, planned.batches, rate)
        seconds.append(time.perf_counter() - started)
        tokens.append(result.num_tokens)
    return float(np.mean(seconds[1:])), float(np.mean(tokens[1:]))


def _time_validation(parts: Parts) -> float:
    """Return the seconds of a validation, from a share of its sentences.

    An untrained model writes to the length limit, so this errs on the long side.
    """
    started = time.perf_counter()
    share = parts.validator.validate_share(parts.model, VALIDATION_SENTENCES)
    return (time.perf_counter() - started) / share


def _checkpoint_bytes(parts: Parts) -> int:
    weights = sum(p.numel() * p.element_size() for p in parts.model.parameters())
    tensors = optimizer_tensors(parts.model, parts.updater.optimizer).values()
    state = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return state + weights * (2 if parts.config.training.ema_decay else 1)


def peak_memory(device: torch.device) -> int:
    """Return the most bytes used so far: of the GPU, or on a CPU by this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _describe(batch: Batch) -> str:
    rows, source = batch.source.shape
    return f"{rows} pairs, {source} source and {batch.target_in.shape[1]} target tokens wide"

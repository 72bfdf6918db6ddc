"""One update of the weights: gradients of several batches, then a step of the optimiser.

Knows no files and no schedule; is told the learning rate.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtrain.config.schema import TrainingConfig
from mtrain.console import say, warn
from mtrain.data.batches import Batch
from mtrain.data.packing import PackedBatch
from mtrain.data.plan import derive_seed
from mtrain.errors import UserError, is_out_of_memory
from mtrain.models.base import Head, Model
from mtrain.training.distributed import ProcessGroup
from mtrain.training.gradient import add_gradient
from mtrain.training.loss import ChunkLoss, Guide, batch_loss, chunk_loss, fusible_chunk_loss
from mtrain.training.optimizer import (
    WeightAverage,
    build_optimizer,
    set_learning_rate,
)
from mtrain.training.precision import Precision
from mtrain.training.recording import WARM_UPS, Recording, is_failed_compilation


@dataclass(frozen=True)
class UpdateResult:
    """Figures of one update, over all processes."""

    loss: float  # smoothed, with what guides attention or is learnt of the source, per target token
    gradient_norm: float  # before clipping
    num_tokens: int  # real target tokens

    @property
    def is_finite(self) -> bool:
        """False where the update was skipped."""
        return bool(torch.isfinite(torch.tensor([self.loss, self.gradient_norm])).all())


class Updater:
    """Holds what changes with each update: model, optimiser, average, loss scale."""

    def __init__(
        self,
        model: Model,
        config: TrainingConfig,
        precision: Precision,
        group: ProcessGroup,
        seed: int,
        head: Head,
    ) -> None:
        self.model = model
        self.optimizer = build_optimizer(model, config)
        self.average = WeightAverage(model, config.ema_decay)
        self.scaler = torch.amp.GradScaler("cuda", enabled=precision.scales_loss)
        self._parameters = list(model.parameters())
        self._config = config
        self._precision = precision
        self._group = group
        self._seed = seed
        weight = config.alignment_weight
        self._guide = Guide(head, weight) if weight else None
        self._packed_chunk_loss: ChunkLoss = chunk_loss
        if config.compile_layers and precision.device.type == "cuda":
            model.compile_layers()
            self._packed_chunk_loss = torch.compile(fusible_chunk_loss, dynamic=False)
        self._recordings: dict[int, Recording] = {}  # by the rows of a batch
        self._recorded_step: Recording | None = None
        self._num_steps = 0
        self._parts = 1  # into how many each batch is split, since one did not fit into memory

    def update(
        self,
        number: int,
        batches: Sequence[Batch],
        learning_rate: float,
        before_batch: Callable[[], None] = lambda: None,
    ) -> UpdateResult:
        """Learn from this process's share of an update's batches.

        The gradient is that of the mean loss over the real target tokens of all batches of all
        processes. An update whose loss or gradient is not finite changes nothing, and neither
        does one that `before_batch` ends by raising.
        """
        self.model.train()
        set_learning_rate(self.optimizer, learning_rate)
        count = sum(batch.num_target_tokens for batch in batches)
        num_tokens = self._group.total(count, self._precision.device)
        loss = self._group.sum(
            self._accumulate_within_memory(number, batches, num_tokens, before_batch)
        )
        self._group.sum_gradients(self._parameters)
        summed_loss, gradient_norm = self._step_recorded(loss).tolist()  # waits for the GPU
        result = UpdateResult(summed_loss, gradient_norm, num_tokens)
        if result.is_finite:
            self.average.update(number)
        return result

    def _step_recorded(self, loss: Tensor) -> Tensor:
        """Do as `_step` does; a GPU records it after a few and repeats it."""
        if self._precision.device.type == "cpu" or self._precision.scales_loss:
            return self._step(loss)
        if self._num_steps < WARM_UPS:  # AdamW makes what it keeps in its first step
            self._num_steps += 1
            return self._step(loss)
        if self._recorded_step is None:
            own = loss.clone()
            self._recorded_step = Recording(lambda: self._step(own), [own], warm_ups=0)
        return self._recorded_step(loss)

    def _step(self, loss: Tensor) -> Tensor:
        """Change the weights, unless loss or gradient norm is not finite; return the two, (2,)."""
        self.scaler.unscale_(self.optimizer)
        limit = self._config.clip_norm or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, limit)
        told = torch.stack([loss, norm])
        if self._precision.scales_loss:
            self.scaler.step(self.optimizer)  # skips by itself
            self.scaler.update()
        else:
            self.optimizer.step_where(told.isfinite().all())
        return told

    def _accumulate_within_memory(
        self,
        number: int,
        batches: Sequence[Batch],
        num_tokens: int,
        before_batch: Callable[[], None],
    ) -> Tensor:
        """Accumulate gradients; where memory runs out, again with every batch in more parts."""
        while True:
            try:
                if batches:
                    self._record(self._parts_of(batches[0])[0])
                # what a GPU has recorded looks for gradients where they lay
                self.optimizer.zero_grad(set_to_none=self._precision.device.type == "cpu")
                return self._accumulate(number, batches, num_tokens, before_batch)
            except RuntimeError as error:
                if is_failed_compilation(error):
                    raise UserError(
                        f"torch cannot compile the model's layers: {error}".split("\n")[0],
                        "use training.compile_layers: false, or install a C compiler",
                    ) from error
                if not is_out_of_memory(error):
                    raise
                largest = max(len(batch.source_lengths) for batch in batches)
            # outside the handler, so that the failed pass's tensors are free again
            if self._parts >= largest:
                raise UserError(
                    "out of memory on a single sentence pair",
                    "lower data.filters.max_tokens or the model's size",
                )
            self._parts *= 2
            self._recordings.clear()  # of batches that are too large
            torch.cuda.empty_cache()
            warn(f"out of memory: from here on each batch is computed in {self._parts} parts")

    def _accumulate(
        self,
        number: int,
        batches: Sequence[Batch],
        num_tokens: int,
        before_batch: Callable[[], None],
    ) -> Tensor:
        """Add the gradients of the mean loss and return this process's part of that loss."""
        total = torch.zeros((), device=self._precision.device)
        for index, whole in enumerate(batches):
            before_batch()
            # dropout depends on the update and the batch, not on what ran before
            position = self._group.rank + index * self._group.size
            seed = derive_seed(self._seed, "dropout", number, position)
            total += self._learn(whole, num_tokens, seed)
        return total

    def _parts_of(self, batch: Batch) -> Sequence[Batch]:
        return batch.split(self._parts) if self._parts > 1 else [batch]

    def _record(self, batch: Batch) -> None:
        """Have a GPU record what it does with such batches, if it has not; adds to gradients."""
        device = self._precision.device
        if not isinstance(batch, PackedBatch) or device.type == "cpu":
            return
        if len(batch.source) not in self._recordings:
            started = time.monotonic()
            own, num_tokens = batch.to(device), torch.ones((), device=device)
            self._recordings[len(batch.source)] = Recording(
                lambda: self._pass(own, num_tokens), [*own.tensors(), num_tokens]
            )
            say(f"recorded an update for the GPU in {time.monotonic() - started:.1f} seconds")

    def _learn(self, batch: Batch, num_tokens: int, seed: int) -> Tensor:
        """Add a batch's gradient and return its part of the mean loss; the seed decides dropout."""
        if self._precision.device.type == "cpu":
            return add_gradient(
                lambda part: self._loss(part, num_tokens),
                batch, self._parts, self._parameters, seed,
            )  # fmt: skip
        torch.manual_seed(seed)
        total = torch.zeros((), device=self._precision.device)
        for part in self._parts_of(batch):
            if isinstance(part, PackedBatch) and len(part.source) in self._recordings:
                recording = self._recordings[len(part.source)]
                total += recording(*part.tensors(), torch.tensor(float(num_tokens)))
            else:
                total += self._pass(part.to(self._precision.device), num_tokens)
        return total

    def _pass(self, batch: Batch, num_tokens: int | Tensor) -> Tensor:
        """Do as `_learn` does, with a batch that is on the device."""
        loss = self._loss(batch, num_tokens)
        self.scaler.scale(loss).backward()
        return loss.detach()

    def _loss(self, batch: Batch, num_tokens: int | Tensor) -> Tensor:
        summed, _ = batch_loss(
            self.model,
            batch,
            self._precision,
            self._config.label_smoothing,
            self._guide,
            self._packed_chunk_loss if isinstance(batch, PackedBatch) else chunk_loss,
        )
        return summed / num_tokens

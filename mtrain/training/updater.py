"""One update of the weights: gradients of several batches, then a step of the optimiser.

Knows no files and no schedule; is told the learning rate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtrain.config.schema import TrainingConfig
from mtrain.console import warn
from mtrain.data.batches import Batch
from mtrain.data.plan import derive_seed
from mtrain.errors import UserError, is_out_of_memory
from mtrain.models.base import Head, Model
from mtrain.training.distributed import ProcessGroup
from mtrain.training.loss import Guide, batch_loss
from mtrain.training.optimizer import WeightAverage, build_optimizer
from mtrain.training.precision import Precision


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
        for parameter_group in self.optimizer.param_groups:
            parameter_group["lr"] = learning_rate
        device = self._precision.device
        counts = torch.tensor(sum(batch.num_target_tokens for batch in batches), device=device)
        num_tokens = int(self._group.sum(counts))
        loss = self._group.sum(
            self._accumulate_within_memory(number, batches, num_tokens, before_batch)
        )
        self._group.sum_gradients(self._parameters)
        self.scaler.unscale_(self.optimizer)
        limit = self._config.clip_norm or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, limit)
        result = UpdateResult(float(loss), float(norm), num_tokens)
        if self._precision.scales_loss:
            self.scaler.step(self.optimizer)  # skips by itself
            self.scaler.update()
        elif result.is_finite:
            self.optimizer.step()
        if result.is_finite:
            self.average.update(number)
        return result

    def _accumulate_within_memory(
        self,
        number: int,
        batches: Sequence[Batch],
        num_tokens: int,
        before_batch: Callable[[], None],
    ) -> Tensor:
        """Accumulate gradients; where memory runs out, again with every batch in more parts."""
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            try:
                return self._accumulate(number, batches, num_tokens, before_batch)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                largest = max(len(batch.source) for batch in batches)
            # outside the handler, so that the failed pass's tensors are free again
            if self._parts >= largest:
                raise UserError(
                    "out of memory on a single sentence pair",
                    "lower data.filters.max_tokens or the model's size",
                )
            self._parts *= 2
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
            # dropout depends on the update and the batch alone, not on what ran before
            position = self._group.rank + index * self._group.size
            torch.manual_seed(derive_seed(self._seed, "dropout", number, position))
            for batch in whole.split(self._parts) if self._parts > 1 else [whole]:
                on_device = batch.to(self._precision.device)
                smoothing = self._config.label_smoothing
                summed, _ = batch_loss(
                    self.model, on_device, self._precision, smoothing, self._guide
                )
                loss = summed / num_tokens
                self.scaler.scale(loss).backward()
                total += loss.detach()
        return total

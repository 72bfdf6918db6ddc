"""One update of the weights: gradients of several batches on all processes, then a step.

Independent of files and schedule. steps/ contains the computation on each kind of device.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from mtrain.console import warn
from mtrain.data.batch import Batch
from mtrain.data.plan import derive_seed
from mtrain.distributed.group import ProcessGroup
from mtrain.errors import UserError, is_out_of_memory
from mtrain.training.optimizer import set_learning_rate
from mtrain.training.state import TrainState
from mtrain.training.steps import Step


@dataclass(frozen=True)
class UpdateResult:
    """Results of one update, over all processes."""

    loss: float  # of the objective, per target token
    gradient_norm: float  # before clipping
    num_tokens: int  # real target tokens

    @property
    def is_finite(self) -> bool:
        """Whether the update was applied; False if it was skipped."""
        return bool(torch.isfinite(torch.tensor([self.loss, self.gradient_norm])).all())


class Updater:
    """Computes updates that do not depend on the number of processes."""

    def __init__(self, state: TrainState, step: Step, group: ProcessGroup, seed: int) -> None:
        self._state = state
        self._step = step
        self._group = group
        self._seed = seed

    def update(
        self,
        number: int,
        batches: Sequence[Batch],
        num_tokens: int,
        learning_rate: float,
        before_batch: Callable[[], None] = lambda: None,
    ) -> UpdateResult:
        """Update the weights from this process's share of an update's batches.

        The loss is the mean over `num_tokens`, the real target tokens of all batches on all
        processes. The weights stay unchanged if loss or gradient is not finite, or if
        `before_batch` raises.
        """
        self._state.model.train()
        set_learning_rate(self._state.optimizers, learning_rate, number)
        self._accumulate_within_memory(number, batches, num_tokens, before_batch)
        loss = self._step.gradients.finish()
        summed_loss, gradient_norm = self._step.apply(loss).tolist()  # synchronises with a GPU
        result = UpdateResult(summed_loss, gradient_norm, num_tokens)
        if result.is_finite:
            self._state.average.update(number)
        return result

    def _accumulate_within_memory(
        self,
        number: int,
        batches: Sequence[Batch],
        num_tokens: int,
        before_batch: Callable[[], None],
    ) -> None:
        """Accumulate gradients; if memory runs out, retry with each batch in more parts."""
        while True:
            try:
                for batch in batches[:1]:  # all have one shape, or need no preparation
                    self._step.prepare(batch)
                self._accumulate(number, batches, num_tokens, before_batch)
                return
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                largest = max(batch.num_rows for batch in batches)
            # outside the handler, because its traceback keeps the tensors alive
            if self._step.gradients.has_sent:
                raise UserError(
                    "out of memory after other processes had begun to add gradients of this one",
                    "lower training.batch_tokens, and raise training.accumulate as much",
                )
            if self._step.num_parts >= largest:
                raise UserError(
                    "out of memory on a single sentence pair",
                    "lower data.filters.max_tokens or the model's size",
                )
            self._step.split_further()
            warn(
                "out of memory: from here on each batch is computed in "
                f"{self._step.num_parts} parts"
            )

    def _accumulate(
        self,
        number: int,
        batches: Sequence[Batch],
        num_tokens: int,
        before_batch: Callable[[], None],
    ) -> None:
        """Accumulate gradients of the mean loss over all tokens."""
        self._step.clear_gradients()
        self._step.gradients.begin()
        for index, batch in enumerate(batches):
            before_batch()
            # dropout depends only on seed, update and batch
            position = self._group.rank + index * self._group.size
            seed = derive_seed(self._seed, "dropout", number, position)
            # what stands in for a batch adds zeros: other processes wait for its gradients
            over = num_tokens if batch.num_target_tokens else math.inf
            is_last = index == len(batches) - 1
            self._step.gradients.end_batch(self._step.accumulate(batch, over, seed, is_last))

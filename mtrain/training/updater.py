"""One update of the weights: the gradients of several batches on all processes, then a step.

Knows no files and no schedule; is told the learning rate. How a device computes is in steps/.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

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
    """Figures of one update, over all processes."""

    loss: float  # what the objective minimises, per target token
    gradient_norm: float  # before clipping
    num_tokens: int  # real target tokens

    @property
    def is_finite(self) -> bool:
        """False where the update was skipped."""
        return bool(torch.isfinite(torch.tensor([self.loss, self.gradient_norm])).all())


class Updater:
    """Computes updates in the order that makes them the same for any number of processes."""

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
        """Learn from this process's share of an update's batches.

        The gradient is that of the mean loss over `num_tokens`, the real target tokens of all
        batches of all processes. An update whose loss or gradient is not finite changes nothing,
        and neither does one that `before_batch` ends by raising.
        """
        self._state.model.train()
        set_learning_rate(self._state.optimizer, learning_rate)
        loss = self._accumulate_within_memory(number, batches, num_tokens, before_batch)
        loss = self._group.sum_gradients(self._state.parameters, loss)
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
    ) -> Tensor:
        """Accumulate gradients; if memory runs out, again with every batch in more parts."""
        while True:
            try:
                for batch in batches[:1]:  # all have the same shape, or are not prepared at all
                    self._step.prepare(batch)
                return self._accumulate(number, batches, num_tokens, before_batch)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                largest = max(len(batch.source_lengths) for batch in batches)
            # outside the handler, which keeps the failed pass's tensors alive
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
    ) -> Tensor:
        """Add the gradients of the mean loss and return this process's part of that loss, ()."""
        self._step.clear_gradients()
        total = torch.zeros((), device=self._state.parameters[0].device)
        for index, batch in enumerate(batches):
            before_batch()
            # dropout depends on the update and the batch, not on what ran before
            position = self._group.rank + index * self._group.size
            seed = derive_seed(self._seed, "dropout", number, position)
            total += self._step.accumulate(batch, num_tokens, seed)
        return total

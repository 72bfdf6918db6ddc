"""The contract of a step: gradients of some batches, then a change of the weights.

Knows no plan, no processes and no schedule.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from mtrain.config.training import TrainingConfig
from mtrain.data.batch import Batch
from mtrain.training.objectives import Objective
from mtrain.training.state import TrainState


class Step(ABC):
    """How an update is computed on one device."""

    def __init__(
        self,
        state: TrainState,
        objective: Objective,
        config: TrainingConfig,
        device: torch.device,
    ) -> None:
        self._state = state
        self._objective = objective
        self._clip_norm = config.clip_norm or float("inf")
        self._device = device
        self.num_parts = 1  # into which each batch is split, because one ran out of memory

    @abstractmethod
    def clear_gradients(self) -> None:
        """Begin an update: no parameter has a gradient."""

    @abstractmethod
    def accumulate(self, batch: Batch, num_tokens: int, seed: int) -> Tensor:
        """Add the gradient of a batch's part of the mean loss, and return that part, ().

        The mean is over `num_tokens`. The seed alone decides dropout.
        """

    def prepare(self, batch: Batch) -> None:
        """Do once, for batches like this one, what must come before gradients are cleared."""
        return

    def apply(self, loss: Tensor) -> Tensor:
        """Change the weights, unless loss or gradient norm is not finite; return the two, (2,)."""
        state = self._state
        state.scaler.unscale_(state.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(state.parameters, self._clip_norm)
        figures = torch.stack([loss, norm])
        if state.scaler.is_enabled():
            state.scaler.step(state.optimizer)  # skips by itself
            state.scaler.update()
        else:
            state.optimizer.step_where(figures.isfinite().all())
        return figures

    def split_further(self) -> None:
        """Compute each batch in twice as many parts from here on."""
        self.num_parts *= 2

    def _parts(self, batch: Batch) -> Sequence[Batch]:
        return batch.split(self.num_parts) if self.num_parts > 1 else [batch]

    def _loss(self, batch: Batch, num_tokens: int | Tensor) -> Tensor:
        return self._objective(self._state.model, batch).loss / num_tokens

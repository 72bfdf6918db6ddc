"""The interface of a step: accumulate gradients over batches, then update the weights.

Independent of the batch plan, other processes and the schedule.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from mtrain.config.training import TrainingConfig
from mtrain.data.batch import Batch
from mtrain.distributed.gradients import GradientSum
from mtrain.distributed.sharding import whole
from mtrain.training.state import TrainState


class Step(ABC):
    """Computes an update on one device."""

    def __init__(
        self,
        state: TrainState,
        gradients: GradientSum,
        config: TrainingConfig,
        device: torch.device,
    ) -> None:
        self._state = state
        self.gradients = gradients
        self._clip_norm = config.clip_norm or float("inf")
        self._device = device
        self.num_parts = 1  # that each batch is split into; over 1 after memory ran out

    @abstractmethod
    def clear_gradients(self) -> None:
        """Clear all gradients, to begin an update."""

    @abstractmethod
    def accumulate(
        self, batch: Batch, num_tokens: float, seed: int, is_last: bool = True
    ) -> Tensor:
        """Add the gradient of a batch's summed loss over `num_tokens`; return that loss, ().

        The seed alone determines dropout. `is_last` says whether no other batch follows.
        """

    def prepare(self, batch: Batch) -> None:
        """Prepare for batches of this shape, once; call it before `clear_gradients`."""
        return

    def apply(self, loss: Tensor) -> Tensor:
        """Update the weights if loss and gradient norm are finite; return both, (2,)."""
        state = self._state
        for optimizer in state.optimizers:
            state.scaler.unscale_(optimizer)
        norm = whole(torch.nn.utils.clip_grad_norm_(state.parameters, self._clip_norm))
        figures = torch.stack([loss, norm])
        is_finite = figures.isfinite().all()
        if state.scaler.is_enabled():
            for optimizer in state.optimizers if is_finite else ():
                state.scaler.step(optimizer)  # by itself it judges the gradients of one optimiser
            state.scaler.update()
        else:
            for optimizer in state.optimizers:
                optimizer.step_where(is_finite)
        return figures

    def split_further(self) -> None:
        """Compute each batch in twice as many parts from now on."""
        self.num_parts *= 2

    def _parts(self, batch: Batch) -> Sequence[Batch]:
        return batch.split(self.num_parts) if self.num_parts > 1 else [batch]

"""Eager execution: forward and backward of each batch in turn, on any device."""

import torch
from torch import Tensor

from mtrain.data.batch import Batch
from mtrain.training.steps.base import Step


class EagerStep(Step):
    """Computes each batch eagerly; the reference for all other steps."""

    def clear_gradients(self) -> None:
        for optimizer in self._state.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def accumulate(
        self, batch: Batch, num_tokens: float, seed: int, is_last: bool = True
    ) -> Tensor:
        torch.manual_seed(seed)
        total = torch.zeros((), device=self._device)
        parts = self._parts(batch)
        for number, part in enumerate(parts, start=1):
            is_last_part = is_last and number == len(parts)
            total += self._learn(part.to(self._device), num_tokens, is_last_part)
        return total

    def _learn(self, batch: Batch, num_tokens: float | Tensor, is_last: bool) -> Tensor:
        """Add the gradient of a batch on the device; return its part of the mean loss, ()."""
        loss = self.gradients.loss(batch, num_tokens, is_last)
        self._state.scaler.scale(loss).backward()
        return loss.detach()

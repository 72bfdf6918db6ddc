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

    def accumulate(self, batch: Batch, num_tokens: int, seed: int) -> Tensor:
        torch.manual_seed(seed)
        total = torch.zeros((), device=self._device)
        for part in self._parts(batch):
            total += self._learn(part.to(self._device), num_tokens)
        return total

    def _learn(self, batch: Batch, num_tokens: int | Tensor) -> Tensor:
        """Add the gradient of a batch on the device; return its part of the mean loss, ()."""
        loss = self._loss(batch, num_tokens)
        self._state.scaler.scale(loss).backward()
        return loss.detach()

"""Prepacked weights for inference: linear layers in oneDNN's own weight layout."""

import copy
from typing import TypeVar

from torch import Tensor, nn

from mtrain.runtime.onednn import linear_prepacked, prepack

Module = TypeVar("Module", bound=nn.Module)


class PrepackedLinear(nn.Module):
    """A linear layer for few rows, where it is faster; without gradient or weights to save."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._bias = None if linear.bias is None else linear.bias.detach()
        self._weight = prepack(linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return (...,O) for x (...,I)."""
        return linear_prepacked(x, self._weight, self._bias)


def prepacked(model: Module) -> Module:
    """Return a copy of a model with prepacked linear layers; it shares all other weights."""
    twin = copy.copy(model)
    twin._modules = {
        name: PrepackedLinear(child)
        if isinstance(child, nn.Linear)
        else None
        if child is None
        else prepacked(child)
        for name, child in model._modules.items()
    }
    return twin


def has_recurrent_layers(model: nn.Module) -> bool:
    """Tell whether a model has recurrent kernels, which cannot be prepacked."""
    return any(isinstance(module, nn.RNNBase) for module in model.modules())

"""Prepacked weights for inference: linear layers in oneDNN's own weight layout."""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from mtrain.runtime.onednn import linear_prepacked, prepack

Module = TypeVar("Module", bound=nn.Module)


class PrepackedLinear(nn.Module):
    """A linear layer for few rows, where it is faster; without gradient or weights to save.

    It multiplies in `dtype`, and returns the dtype of its input.
    """

    def __init__(self, linear: nn.Linear, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self._dtype = dtype
        self._bias = None if linear.bias is None else linear.bias.detach().to(dtype)
        self._weight = prepack(linear.weight.to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Return (...,O) for x (...,I)."""
        return linear_prepacked(x.to(self._dtype), self._weight, self._bias).to(x.dtype)


def prepacked(model: Module, dtype: torch.dtype = torch.float32) -> Module:
    """Return a copy of a model with prepacked linear layers; it shares all other weights."""
    twin = copy.copy(model)
    twin._modules = {
        name: PrepackedLinear(child, dtype)
        if isinstance(child, nn.Linear)
        else None
        if child is None
        else prepacked(child, dtype)
        for name, child in model._modules.items()
    }
    return twin


def has_recurrent_layers(model: nn.Module) -> bool:
    """Tell whether a model has recurrent kernels, which cannot be prepacked."""
    return any(isinstance(module, nn.RNNBase) for module in model.modules())

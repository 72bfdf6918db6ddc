"""Put weights into a model by name, for good or within a block."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mtrain.errors import UserError


@torch.no_grad()
def put_weights(
    model: nn.Module, weights: dict[str, Tensor], origin: str = "the checkpoint"
) -> None:
    """Copy weights into a model's parameters; raises `UserError` if names or shapes differ."""
    parameters = dict(model.named_parameters())
    if parameters.keys() != weights.keys() or any(
        parameter.shape != weights[name].shape for name, parameter in parameters.items()
    ):
        raise UserError(
            f"{origin}: these weights are not those of the configured model",
            "the run folder's config.yaml and its checkpoints must come from the same run",
        )
    for name, parameter in parameters.items():
        parameter.copy_(weights[name])


@contextmanager
def replaced_weights(model: nn.Module, weights: dict[str, Tensor]) -> Iterator[None]:
    """Replace a model's weights inside the block, then restore its own; {} replaces none."""
    if not weights:
        yield
        return
    own = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    put_weights(model, weights)
    try:
        yield
    finally:
        put_weights(model, own)

"""Put weights into a model by name, for good or within a block."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mtrain.errors import UserError

MOST_NAMED = 3  # tensors that an error names


@torch.no_grad()
def put_weights(
    model: nn.Module, weights: dict[str, Tensor], origin: str = "the checkpoint"
) -> None:
    """Copy weights into a model's parameters; raises `UserError` if names or shapes differ."""
    parameters = dict(model.named_parameters())
    wrong = [
        f"{name}: {_shape(weights.get(name))} there, {_shape(parameters.get(name))} in the model"
        for name in parameters | weights
        if _shape(weights.get(name)) != _shape(parameters.get(name))
    ]
    if wrong:
        more = f", and {len(wrong) - MOST_NAMED} more" if len(wrong) > MOST_NAMED else ""
        raise UserError(
            f"{origin}: these weights are not those of the configured model: "
            + "; ".join(wrong[:MOST_NAMED])
            + more,
            "the run folder's config.yaml and its checkpoints must come from the same run",
        )
    for name, parameter in parameters.items():
        parameter.copy_(weights[name])


def _shape(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else f"shape {tuple(tensor.shape)}"


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

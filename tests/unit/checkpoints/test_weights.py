"""Weights that do not fit a model are named, with both shapes, and change nothing."""

import pytest
import torch
from torch import Tensor, nn

from mtrain.checkpoints.weights import put_weights
from mtrain.errors import UserError


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"0.weight": torch.zeros(3, 5)},
            "0.weight: shape (3, 5) there, shape (3, 2) in the model",
        ),
        ({"0.bias": None}, "0.bias: missing there, shape (3,) in the model"),
        ({"2.bias": torch.zeros(4)}, "2.bias: shape (4,) there, missing in the model"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(change: dict[str, Tensor | None], told: str) -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    given = {name: torch.zeros_like(tensor) for name, tensor in before.items()} | change
    with pytest.raises(UserError) as caught:
        put_weights(model, {name: t for name, t in given.items() if t is not None}, "runs/a")
    assert caught.value.message == (
        f"runs/a: these weights are not those of the configured model: {told}"
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_of_many_tensors_that_do_not_fit_a_few_are_named() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    with pytest.raises(UserError, match=r"0\.weight: .*0\.bias: .*1\.weight: .*, and 1 more"):
        put_weights(model, {})

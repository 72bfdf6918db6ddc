"""The optimisers: a step that a tensor switches off leaves weights and moments as they were."""

from typing import Literal, get_args

import pytest
import torch
from torch import Tensor, nn

from mtrain.config.training import TrainingConfig
from mtrain.training.optimizer import build_optimizers, optimizer_tensors


def step(
    model: nn.Linear, optimizer: Literal["adamw", "muon"], is_finite: bool, *gradients: float
) -> dict[str, Tensor]:
    """Step for each gradient, the second only if `is_finite`; return weights and moments."""
    config = TrainingConfig(weight_decay=0.1, optimizer=optimizer)
    optimizers = build_optimizers(model, config, torch.float32)
    for number, gradient in enumerate(gradients):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        for optimizer in optimizers:
            optimizer.step_where(torch.tensor(is_finite or number != 1))
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    return weights | optimizer_tensors(model, optimizers)


def new_model() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(5, 3)


@pytest.mark.parametrize("optimizer", get_args(TrainingConfig.model_fields["optimizer"].annotation))
def test_a_step_not_to_be_taken_leaves_no_trace(optimizer: Literal["adamw", "muon"]) -> None:
    with_one = step(new_model(), optimizer, False, 0.5, float("nan"), -0.2)
    without = step(new_model(), optimizer, True, 0.5, -0.2)
    assert with_one.keys() == without.keys()
    for name, tensor in with_one.items():
        assert torch.equal(tensor, without[name]), name
    assert not torch.equal(without["weight"], new_model().weight)

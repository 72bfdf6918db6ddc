"""The optimiser that a tensor can tell to do nothing, as a GPU does without anybody waiting."""

import torch
from torch import Tensor, nn

from mtrain.config.training import TrainingConfig
from mtrain.training.optimizer import build_optimizer, optimizer_tensors


def step(model: nn.Linear, is_finite: bool, *gradients: float) -> dict[str, Tensor]:
    """Take a step for each gradient, the second of them where it says so; return all there is."""
    optimizer = build_optimizer(model, TrainingConfig(weight_decay=0.1))
    for number, gradient in enumerate(gradients):
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step_where(torch.tensor(is_finite or number != 1))
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    return weights | optimizer_tensors(model, optimizer)


def new_model() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(5, 3)


def test_a_step_not_to_be_taken_leaves_no_trace() -> None:
    with_one = step(new_model(), False, 0.5, float("nan"), -0.2)
    without = step(new_model(), True, 0.5, -0.2)
    assert with_one.keys() == without.keys()
    for name, tensor in with_one.items():
        assert torch.equal(tensor, without[name]), name
    assert not torch.equal(without["weight"], new_model().weight)

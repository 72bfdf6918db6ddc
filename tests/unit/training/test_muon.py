"""Muon: near-orthogonal updates, the same as torch's own Muon, each stacked matrix by itself."""

import pytest
import torch
from torch import Tensor

from mtrain.models.base import Model
from mtrain.nn.stacked import layer_matrices
from mtrain.training.muon import ITERATIONS, Muon, orthogonalise
from tests.contract.models import MODELS, new_model

SHAPES = [(24, 24), (48, 24), (24, 48)]


def gradients(count: int, shape: tuple[int, int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


def learn(optimizer: torch.optim.Optimizer, weight: Tensor, gradients: list[Tensor]) -> Tensor:
    for gradient in gradients:
        weight.grad = gradient
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_singular_values_come_near_one(dtype: torch.dtype, scale: float) -> None:
    # no singular value of these is below a fiftieth of the norm
    matrices = torch.stack(gradients(4, (24, 48))) * scale
    values = torch.linalg.svdvals(orthogonalise(matrices, dtype).float())
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3


def test_a_zero_gradient_gives_a_zero_update() -> None:
    assert not orthogonalise(torch.zeros(2, 3, 5), torch.float32).any()


@pytest.mark.parametrize("shape", SHAPES)
def test_it_learns_what_torchs_muon_learns(shape: tuple[int, int]) -> None:
    settings = {"lr": 0.02, "weight_decay": 0.1}
    own, theirs = (torch.ones(shape, requires_grad=True) for _ in range(2))
    reference = torch.optim.Muon(
        [theirs], adjust_lr_fn="match_rms_adamw", ns_steps=ITERATIONS, **settings
    )
    given = gradients(5, shape)
    moved = learn(Muon([(own, 1)], dtype=torch.bfloat16, **settings), own, given) - 1
    expected = learn(reference, theirs, given) - 1
    assert float((moved - expected).norm() / expected.norm()) < 0.03  # both round to bf16


@pytest.mark.parametrize("shape", SHAPES)
def test_a_stacked_matrix_learns_as_its_parts_would(shape: tuple[int, int]) -> None:
    settings = {"lr": 0.02, "weight_decay": 0.1, "dtype": torch.float32}
    parts = [torch.ones(shape, requires_grad=True) for _ in range(3)]
    whole = torch.ones(3 * shape[0], shape[1], requires_grad=True)
    given = [gradients(4, shape), gradients(5, shape)[1:], gradients(6, shape)[2:]]
    alone = [learn(Muon([(part, 1)], **settings), part, theirs)
             for part, theirs in zip(parts, given, strict=True)]  # fmt: skip
    together = learn(
        Muon([(whole, 3)], **settings), whole, list(map(torch.cat, zip(*given, strict=True)))
    )
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_it_takes_all_matrices_but_those_whose_rows_stand_for_words(name: str) -> None:
    model: Model = new_model(name)
    found = dict(layer_matrices(model))
    for key, parameter in model.named_parameters():
        is_matrix = parameter.dim() == 2 and not any(
            part in key for part in ("embedding", "positions", "output.")
        )
        assert (parameter in found) is is_matrix, key
        if parameter in found:
            assert len(parameter) % found[parameter] == 0
    if name.startswith("transformer"):
        names = {weight: key for key, weight in model.named_parameters()}
        stacked = {names[weight].split(".")[-2]: count for weight, count in found.items()}
        assert (stacked["in_projection"], stacked["memory_projection"]) == (3, 2)

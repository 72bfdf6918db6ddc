"""The projected cross-entropy against torch's own, in value and in both gradients."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mtrain.nn import output as output_module
from mtrain.nn.output import (
    IGNORE_INDEX,
    ChunkLoss,
    OutputLayer,
    chunk_loss,
    fusible_chunk_loss,
)

VOCAB, WIDTH, TOKENS = 37, 16, 50


def draw(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Return features (N,D), output matrix (V,D), targets (N,)."""
    torch.manual_seed(1)
    features = torch.randn(TOKENS, WIDTH).to(dtype).requires_grad_()
    matrix = torch.randn(VOCAB, WIDTH).requires_grad_()
    return features, matrix, torch.randint(VOCAB, (TOKENS,))


def smoothed_cross_entropy(
    features: Tensor,
    matrix: Tensor,
    targets: Tensor,
    smoothing: float,
    of_chunk: ChunkLoss = chunk_loss,
) -> tuple[Tensor, Tensor]:
    """Return the loss of an output layer with that matrix, by that function of a chunk."""
    layer = OutputLayer(WIDTH, VOCAB)
    layer.__dict__["weight"] = matrix  # no copy: the tests ask for the gradient of their own
    del layer._parameters["weight"]
    layer._fused_chunk_loss = of_chunk
    return layer.cross_entropy(features, targets, smoothing, has_static_shape=True)


def by_torch(
    features: Tensor, matrix: Tensor, targets: Tensor, smoothing: float
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Return the loss and its gradients, in double precision."""
    precise = [tensor.detach().double().requires_grad_() for tensor in (features, matrix)]
    logits = precise[0] @ precise[1].T
    loss = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="sum")
    return loss, torch.autograd.grad(loss, precise)


@pytest.mark.parametrize("of_chunk", [chunk_loss, fusible_chunk_loss])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("rows", [1, 7, 25, 50, 1000])
def test_it_equals_torchs_cross_entropy_for_any_chunk(
    rows: int, smoothing: float, of_chunk: ChunkLoss, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(output_module.CHUNK_LOGITS, "cpu", rows * VOCAB)
    features, matrix, targets = draw()
    loss, nll = smoothed_cross_entropy(features, matrix, targets, smoothing, of_chunk)
    gradients = torch.autograd.grad(loss, (features, matrix))
    expected, expected_gradients = by_torch(features, matrix, targets, smoothing)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-4)
    plain, _ = by_torch(features, matrix, targets, 0.0)
    torch.testing.assert_close(nll.double(), plain, rtol=1e-5, atol=1e-4)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient.double(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("most", "rows"), [(50, [50]), (49, [25, 25]), (20, [17, 17, 16])])
def test_chunks_are_about_equal_and_no_larger_than_they_may(
    most: int, rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(output_module.CHUNK_LOGITS, "cpu", most * VOCAB)
    seen = []

    def noting(logits: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
        seen.append(len(logits))
        return chunk_loss(logits, *others)

    smoothed_cross_entropy(*draw(), 0.1, noting)
    assert seen == rows


@pytest.mark.parametrize("of_chunk", [chunk_loss, fusible_chunk_loss])
def test_where_nothing_is_to_be_learnt_nothing_counts(of_chunk: ChunkLoss) -> None:
    features, matrix, targets = draw()
    real = torch.arange(TOKENS) % 3 > 0
    expected = smoothed_cross_entropy(features[real], matrix, targets[real], 0.1)
    wanted = torch.autograd.grad(expected[0], (features, matrix))
    targets[~real] = IGNORE_INDEX
    told = smoothed_cross_entropy(features, matrix, targets, 0.1, of_chunk)
    found = torch.autograd.grad(told[0], (features, matrix))
    for one, other in ((told, expected), (found, wanted)):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [7, 1000])
def test_bf16_features_give_nearly_the_same(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(output_module.CHUNK_LOGITS, "cpu", rows * VOCAB)
    features, matrix, targets = draw(torch.bfloat16)
    loss, _ = smoothed_cross_entropy(features, matrix, targets, 0.1)
    gradients = torch.autograd.grad(loss, (features, matrix))
    assert loss.dtype == torch.float32
    assert [gradient.dtype for gradient in gradients] == [torch.bfloat16, torch.float32]
    expected, expected_gradients = by_torch(features, matrix, targets, 0.1)
    torch.testing.assert_close(loss.double(), expected, rtol=0.01, atol=0)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        difference = (gradient.double() - wanted).norm() / wanted.norm()
        assert float(difference) < 0.02


def test_the_gradient_follows_the_scale_of_the_loss() -> None:
    """As loss scaling and the division by the number of tokens need it."""
    features, matrix, targets = draw()
    once = torch.autograd.grad(
        smoothed_cross_entropy(features, matrix, targets, 0.1)[0], (features, matrix)
    )
    loss, _ = smoothed_cross_entropy(features, matrix, targets, 0.1)
    scaled = torch.autograd.grad(loss * 64, (features, matrix))
    for one, other in zip(once, scaled, strict=True):
        torch.testing.assert_close(one * 64, other)


def test_without_gradients_it_is_the_same_loss() -> None:
    features, matrix, targets = draw()
    loss, nll = smoothed_cross_entropy(features, matrix, targets, 0.1)
    with torch.inference_mode():
        measured = smoothed_cross_entropy(features, matrix, targets, 0.1)
    assert [value.item() for value in measured] == [loss.item(), nll.item()]


def test_extreme_logits_stay_finite() -> None:
    features, matrix, targets = draw()
    loss, _ = smoothed_cross_entropy(features * 1e4, matrix, targets, 0.1)
    expected, _ = by_torch(features * 1e4, matrix, targets, 0.1)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("of_chunk", [chunk_loss, fusible_chunk_loss])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("rows", [7, 1000])
def test_a_bias_is_part_of_loss_and_gradient(
    rows: int, smoothing: float, of_chunk: ChunkLoss, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(output_module.CHUNK_LOGITS, "cpu", rows * VOCAB)
    features, _, targets = draw()
    targets[::3] = IGNORE_INDEX
    layer = OutputLayer(WIDTH, VOCAB, bias=True)
    torch.nn.init.normal_(layer.bias)
    layer._fused_chunk_loss = of_chunk
    loss, nll = layer.cross_entropy(features, targets, smoothing, has_static_shape=True)
    found = torch.autograd.grad(loss, (features, layer.weight, layer.bias))
    precise = OutputLayer(WIDTH, VOCAB, bias=True).double()
    precise.load_state_dict(layer.state_dict())
    inputs = features.detach().double().requires_grad_()
    expected, plain = (
        F.cross_entropy(precise(inputs), targets, label_smoothing=share, reduction="sum",
                        ignore_index=IGNORE_INDEX)
        for share in (smoothing, 0.0)
    )  # fmt: skip
    wanted = torch.autograd.grad(expected, (inputs, precise.weight, precise.bias))
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(nll.double(), plain, rtol=1e-5, atol=1e-4)
    for gradient, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient.double(), right, rtol=1e-4, atol=1e-5)

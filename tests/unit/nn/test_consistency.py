"""The loss of two passes against torch's own on whole logits."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mtrain.nn import output as output_module
from mtrain.nn.consistency import Divergence, consistent_cross_entropy, kl, symmetric_kl
from mtrain.nn.output import IGNORE_INDEX, OutputLayer

VOCAB, WIDTH, TOKENS = 37, 16, 51
SMOOTHING, WEIGHT = 0.1, 2.5


def by_torch(first: Tensor, second: Tensor) -> Tensor:
    """Return KL(first || second) (N,) of log probabilities (N,V)."""
    return F.kl_div(second, first, log_target=True, reduction="none").sum(dim=1)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    ("divergence", "shares"), [(symmetric_kl, (0.5, 0.5)), (kl, (1.0, 0.0))], ids=["both", "one"]
)
def test_loss_and_gradients_are_those_of_torch(
    divergence: Divergence,
    shares: tuple[float, float],
    bias: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(output_module.CHUNK_LOGITS, "cpu", 5 * VOCAB)  # odd, so that it is rounded
    torch.manual_seed(1)
    layer = OutputLayer(WIDTH, VOCAB, bias=bias)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    targets = torch.randint(VOCAB, (TOKENS,))
    targets[::3] = IGNORE_INDEX
    features = [torch.randn(TOKENS, WIDTH, requires_grad=True) for _ in range(2)]
    loss, nll = consistent_cross_entropy(
        layer, (features[0], features[1]), targets, SMOOTHING, shares, divergence, WEIGHT
    )
    found = torch.autograd.grad(3 * loss, (*features, *layer.parameters()))

    real = targets != IGNORE_INDEX
    first, second = (layer(each)[real].log_softmax(dim=1) for each in features)
    losses = [F.nll_loss(each, targets[real], reduction="sum") * (1 - SMOOTHING)
              - SMOOTHING * each.mean(dim=1).sum() for each in (first, second)]  # fmt: skip
    differing = by_torch(first, second)
    if divergence is symmetric_kl:
        differing = (differing + by_torch(second, first)) / 2
    expected = shares[0] * losses[0] + shares[1] * losses[1] + WEIGHT * differing.sum()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(nll, F.nll_loss(first, targets[real], reduction="sum"))
    wanted = torch.autograd.grad(3 * expected, (*features, *layer.parameters()))
    for got, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(got, right, atol=1e-4, rtol=1e-4)


def test_two_equal_passes_lose_what_one_does() -> None:
    torch.manual_seed(1)
    layer, features = OutputLayer(WIDTH, VOCAB), torch.randn(TOKENS, WIDTH)
    targets = torch.randint(VOCAB, (TOKENS,))
    one = layer.cross_entropy(features, targets, SMOOTHING)
    for shares, divergence in (((0.5, 0.5), symmetric_kl), ((1.0, 0.0), kl)):
        two = consistent_cross_entropy(
            layer, (features, features), targets, SMOOTHING, shares, divergence, WEIGHT
        )
        torch.testing.assert_close(two, one)

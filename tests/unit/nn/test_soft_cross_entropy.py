"""The cross-entropy with distributions against torch's own on whole logits."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mtrain.nn import output as output_module
from mtrain.nn.output import IGNORE_INDEX, OutputLayer
from mtrain.nn.soft_cross_entropy import (
    DenseDistribution,
    SparseDistribution,
    Term,
    soft_cross_entropy,
)

VOCAB, WIDTH, TOKENS, KNOWN = 37, 16, 50, 5
SMOOTHING, WEIGHT = 0.1, 0.6


def draw(bias: bool, dtype: torch.dtype = torch.float32) -> tuple[Tensor, OutputLayer, Tensor]:
    """Return features (N,D), an output layer, and targets (N,), some to be ignored."""
    torch.manual_seed(1)
    layer = OutputLayer(WIDTH, VOCAB, bias=bias)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    targets = torch.randint(VOCAB, (TOKENS,))
    targets[::3] = IGNORE_INDEX
    return torch.randn(TOKENS, WIDTH).to(dtype).requires_grad_(), layer, targets


def likeliest(log_probs: Tensor, count: int = KNOWN) -> tuple[Tensor, Tensor]:
    """Return the ids and log probabilities (N,K) of the likeliest words, as `prepare` keeps."""
    known, ids = log_probs.topk(count, dim=1)
    return ids, known.half()


def teacher_log_probs() -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.log_softmax(2 * torch.randn(TOKENS, VOCAB, generator=generator), dim=1)


def whole(distribution: SparseDistribution) -> Tensor:
    """Return a distribution as probabilities (N,V), in double precision."""
    even = (distribution.rest.double() / VOCAB)[:, None].repeat(1, VOCAB)
    return even.scatter_add(1, distribution.ids, distribution.shares.double())


def expected_shares(ids: Tensor, known: Tensor, temperature: float) -> Tensor:
    """Return (N,V): the mass that is left spread over all others, then raised and normalised."""
    rest = 1 - known.double().exp().sum(dim=1, keepdim=True)
    even = (rest / (VOCAB - ids.shape[1])).repeat(1, VOCAB)
    probabilities = even.scatter(1, ids, known.double().exp()) ** (1 / temperature)
    return probabilities / probabilities.sum(dim=1, keepdim=True)


def by_torch(
    features: Tensor, layer: OutputLayer, targets: Tensor, terms: list[tuple[Tensor, float, float]]
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """Return loss, plain NLL and all gradients, of terms (probabilities, weight, temperature)."""
    precise = OutputLayer(WIDTH, VOCAB, bias=layer.bias is not None).double()
    precise.load_state_dict(layer.state_dict())
    inputs = features.detach().double().requires_grad_()
    real = targets != IGNORE_INDEX
    logits = precise(inputs)[real]
    loss = logits.new_zeros(())
    for probabilities, weight, temperature in terms:
        loss = loss + weight * F.cross_entropy(
            logits / temperature, probabilities[real], reduction="sum"
        )
    nll = F.cross_entropy(logits, targets[real], reduction="sum")
    return loss, nll, torch.autograd.grad(loss, (inputs, *precise.parameters()))


def check(
    features: Tensor,
    layer: OutputLayer,
    targets: Tensor,
    terms: list[Term],
    wanted: list[Tensor],
    tolerance: float = 1e-4,
) -> None:
    """Compare loss, NLL and gradients with torch's, the terms' probabilities being `wanted`."""
    loss, nll = soft_cross_entropy(layer, features, targets, terms)
    gradients = torch.autograd.grad(loss, (features, *layer.parameters()))
    described = [(probabilities, term.weight, term.temperature)
                 for probabilities, term in zip(wanted, terms, strict=True)]  # fmt: skip
    right, right_nll, right_gradients = by_torch(features, layer, targets, described)
    for found, value in ((loss, right), (nll, right_nll)):
        torch.testing.assert_close(found.double(), value, rtol=tolerance, atol=1e-4)
    for found, value in zip(gradients, right_gradients, strict=True):
        assert float((found.double() - value).norm() / value.norm()) < 2 * tolerance


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.5])
def test_what_the_likeliest_words_leave_is_spread_evenly(temperature: float) -> None:
    ids, known = likeliest(teacher_log_probs())
    found = whole(SparseDistribution.of_likeliest(ids, known, VOCAB, temperature))
    torch.testing.assert_close(found, expected_shares(ids, known, temperature), atol=1e-6, rtol=0)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_nothing_needs_to_be_left(temperature: float) -> None:
    log_probs = teacher_log_probs()
    every = SparseDistribution.of_likeliest(*likeliest(log_probs, VOCAB), VOCAB, temperature)
    wanted = torch.softmax(log_probs.double() / temperature, dim=1)
    torch.testing.assert_close(whole(every), wanted, atol=1e-3, rtol=0)
    one_hot = torch.tensor([[0.0, -torch.inf]]).half()
    certain = SparseDistribution.of_likeliest(torch.tensor([[3, 5]]), one_hot, VOCAB, temperature)
    torch.testing.assert_close(whole(certain), F.one_hot(torch.tensor([3]), VOCAB).double())
    for distribution in (every, certain):
        sums = distribution.shares.sum(dim=1) + distribution.rest
        torch.testing.assert_close(sums, torch.ones_like(sums))


@pytest.mark.parametrize("rows", [7, 1000])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_it_equals_torchs_cross_entropy_with_probabilities(
    temperature: float, bias: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(output_module.CHUNK_LOGITS, "cpu", rows * VOCAB)
    features, layer, targets = draw(bias)
    own = SparseDistribution.of_tokens(targets, SMOOTHING)
    taught = SparseDistribution.of_likeliest(*likeliest(teacher_log_probs()), VOCAB, temperature)
    both = [Term(taught, WEIGHT * temperature**2, temperature), Term(own, 1 - WEIGHT)]
    check(features, layer, targets, both, [whole(taught), whole(own)])
    if temperature == 1:
        mixed = own.mixed_with(taught, WEIGHT)
        wanted = (1 - WEIGHT) * whole(own) + WEIGHT * whole(taught)
        torch.testing.assert_close(whole(mixed), wanted)
        check(features, layer, targets, [Term(mixed)], [wanted])


@pytest.mark.parametrize("rows", [7, 1000])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_teachers_softmax_is_computed_chunk_by_chunk(
    temperature: float, bias: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(output_module.CHUNK_LOGITS, "cpu", rows * VOCAB)
    features, layer, targets = draw(bias)
    teacher = OutputLayer(2 * WIDTH, VOCAB, bias=bias)
    states = torch.randn(TOKENS, 2 * WIDTH)
    own = SparseDistribution.of_tokens(targets, 0.0)
    terms = [Term(DenseDistribution(states, teacher, temperature), WEIGHT, temperature),
             Term(own, 1 - WEIGHT)]  # fmt: skip
    probabilities = torch.softmax(teacher(states).double() / temperature, dim=1).detach()
    check(features, layer, targets, terms, [probabilities, whole(own)])


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_bf16_features_give_nearly_the_same(temperature: float) -> None:
    features, layer, targets = draw(True, torch.bfloat16)
    own = SparseDistribution.of_tokens(targets, SMOOTHING)
    taught = SparseDistribution.of_likeliest(*likeliest(teacher_log_probs()), VOCAB, temperature)
    terms = [Term(taught, WEIGHT * temperature**2, temperature), Term(own, 1 - WEIGHT)]
    check(features, layer, targets, terms, [whole(taught), whole(own)], tolerance=0.01)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_single_token_is_what_the_output_layer_learns(smoothing: float) -> None:
    features, layer, targets = draw(True)
    plain = layer.cross_entropy(features, targets, smoothing)
    own = SparseDistribution.of_tokens(targets, smoothing)
    one_hot = torch.zeros(TOKENS, 1)
    certain = SparseDistribution.of_likeliest(
        targets.clamp_min(0)[:, None], one_hot.half(), VOCAB, 1.0
    )
    given = [own] if smoothing else [own, own.mixed_with(certain, WEIGHT)]
    for distribution in given:
        found = soft_cross_entropy(layer, features, targets, [Term(distribution)])
        torch.testing.assert_close(found, plain, rtol=1e-5, atol=1e-4)
        wanted, gradients = (
            torch.autograd.grad(each, (features, *layer.parameters()), retain_graph=True)
            for each in (plain[0], found[0])
        )
        torch.testing.assert_close(gradients, wanted, rtol=1e-4, atol=1e-5)


def test_without_gradients_it_is_the_same_loss_and_scales_with_it() -> None:
    features, layer, targets = draw(True)
    taught = SparseDistribution.of_likeliest(*likeliest(teacher_log_probs()), VOCAB, 2.0)
    terms = [Term(taught, WEIGHT, 2.0), Term(SparseDistribution.of_tokens(targets, 0.1))]
    loss, nll = soft_cross_entropy(layer, features, targets, terms)
    with torch.inference_mode():
        measured = soft_cross_entropy(layer, features, targets, terms)
    assert [value.item() for value in measured] == [loss.item(), nll.item()]
    inputs = (features, *layer.parameters())
    once = torch.autograd.grad(loss, inputs, retain_graph=True)
    for one, other in zip(once, torch.autograd.grad(loss * 64, inputs), strict=True):
        torch.testing.assert_close(one * 64, other)

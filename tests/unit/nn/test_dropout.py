"""Dropout and drop-net: the share, the scale, the gradient, and that a seed decides it."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mtrain.nn.dropout import drop_net, dropout, seeded_dropout


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_it_zeroes_its_share_and_scales_the_rest(rate: float) -> None:
    torch.manual_seed(1)
    x = torch.ones(1000, 333)
    dropped = dropout(x, rate, is_training=True)
    scale = torch.tensor(1 / (1 - rate))
    assert bool(((dropped == 0) | torch.isclose(dropped, scale)).all())
    # 333,000 draws: five standard deviations are under 0.0044
    assert float((dropped == 0).float().mean()) == pytest.approx(rate, abs=0.0044)


def test_elements_are_dropped_independently() -> None:
    """Neighbours share a random draw, of which each has bits of its own."""
    torch.manual_seed(1)
    kept = (dropout(torch.ones(100_000, 4), 0.5, is_training=True) > 0).float()
    correlations = torch.corrcoef(kept.T) - torch.eye(4)
    assert float(correlations.abs().max()) < 0.016  # five standard deviations
    assert len(kept[:10_000].unique(dim=0)) == 16  # all patterns of four


@pytest.mark.parametrize("shape", [(1,), (3,), (4, 5), (2, 3, 7), (0, 4)])
def test_the_gradient_goes_where_the_value_went(shape: tuple[int, ...]) -> None:
    torch.manual_seed(2)
    x = torch.ones(shape, requires_grad=True)
    dropped = dropout(x, 0.3, is_training=True)
    dropped.sum().backward()
    assert dropped.shape == shape
    assert torch.equal(x.grad, dropped.detach())


def test_the_seed_decides() -> None:
    x = torch.randn(50, 7)
    torch.manual_seed(3)
    first, second = dropout(x, 0.5, True), dropout(x, 0.5, True)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.5, True), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize(("rate", "is_training"), [(0.5, False), (0.0, True)])
def test_without_training_or_rate_nothing_happens(rate: float, is_training: bool) -> None:
    x = torch.randn(5, 7)
    assert torch.equal(dropout(x, rate, is_training), x)


def test_bf16_stays_bf16() -> None:
    assert dropout(torch.ones(8, dtype=torch.bfloat16), 0.5, True).dtype == torch.bfloat16


def test_a_seed_of_ones_own_decides_alone() -> None:
    x = torch.randn(50, 7)

    def drop(disturb: bool = False) -> torch.Tensor:
        with seeded_dropout(3):
            first = dropout(x, 0.5, True)
            if disturb:
                torch.manual_seed(5)
                with ThreadPoolExecutor(1) as other:
                    other.submit(dropout, x, 0.5, True).result()
            return torch.stack([first, dropout(x, 0.5, True)])

    torch.manual_seed(4)
    of_torch = dropout(x, 0.5, True)
    torch.manual_seed(4)
    before = drop()
    assert torch.equal(dropout(x, 0.5, True), of_torch)  # again, and not drawn from meanwhile
    assert torch.equal(drop(disturb=True), before)
    assert not torch.equal(before[0], before[1])


@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0])
def test_drop_net_takes_one_of_two_outputs_for_its_share_of_the_sentences(rate: float) -> None:
    one, other = torch.zeros(20_000, 2, 3), torch.ones(20_000, 2, 3)
    with seeded_dropout(1):
        mixed = drop_net(one, other, rate, is_training=True)
    with seeded_dropout(1):
        assert torch.equal(drop_net(one, other, rate, is_training=True), mixed)
    shares = [float((mixed == value).float().mean()) for value in (0.0, 0.5, 1.0)]
    # 20,000 draws: five standard deviations are under 0.018
    assert shares == pytest.approx([rate / 2, 1 - rate, rate / 2], abs=0.018)
    assert bool((mixed == mixed[:, :1, :1]).all())  # a sentence as a whole
    assert bool((drop_net(one, other, rate, is_training=False) == 0.5).all())

"""Residual, feed-forward and positions against their formulas."""

import math

import pytest
import torch
import torch.nn.functional as F

from mtrain.nn.layers import FeedForward, Residual
from mtrain.nn.positions import LearnedPositions, SinusoidalPositions, sinusoids


def test_pre_norm_normalises_the_input_and_post_norm_the_sum() -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 3, 8) * 5 + 1
    for pre_norm in (True, False):
        residual = Residual(8, dropout=0.0, pre_norm=pre_norm)
        out = residual(x, torch.tanh)
        normalised = F.layer_norm(x, (8,))
        expected = x + normalised.tanh() if pre_norm else F.layer_norm(x + x.tanh(), (8,))
        torch.testing.assert_close(out, expected)


def test_the_residual_drops_the_sublayers_output_and_never_its_input() -> None:
    torch.manual_seed(1)
    x = torch.randn(1, 100, 8)
    out = Residual(8, dropout=0.5, pre_norm=True)(x, lambda y: torch.full_like(y, 3.0))
    assert {round(value, 3) for value in (out - x).flatten().tolist()} == {0.0, 6.0}


@pytest.mark.parametrize(("name", "activation"), [("relu", F.relu), ("gelu", F.gelu)])
def test_feed_forward_is_two_maps_with_the_activation_between(
    name: str, activation: object
) -> None:
    assert callable(activation)
    torch.manual_seed(1)
    layer = FeedForward(6, 10, name)
    x = torch.randn(2, 3, 6)
    hidden = activation(x @ layer.inner.weight.T + layer.inner.bias)
    torch.testing.assert_close(layer(x), hidden @ layer.outer.weight.T + layer.outer.bias)


def test_sinusoids_are_those_of_the_paper_up_to_the_order_of_the_width() -> None:
    table = sinusoids(50, 16)
    for position in (0, 1, 7, 49):
        for pair in range(8):
            angle = position / 10_000 ** (2 * pair / 16)
            assert float(table[position, pair]) == pytest.approx(math.sin(angle), abs=1e-5)
            assert float(table[position, 8 + pair]) == pytest.approx(math.cos(angle), abs=1e-5)


@pytest.mark.parametrize("positions", [SinusoidalPositions(20, 8), LearnedPositions(20, 8)])
def test_positions_from_a_start_are_a_slice_of_all(positions: torch.nn.Module) -> None:
    assert torch.equal(positions(5, 3), positions(0, 20)[5:8])


def test_only_learned_positions_are_parameters() -> None:
    assert [p.shape for p in LearnedPositions(20, 8).parameters()] == [(20, 8)]
    fixed = SinusoidalPositions(20, 8)
    assert not list(fixed.parameters())
    assert not fixed.state_dict()

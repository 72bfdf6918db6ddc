"""Residual, feed-forward and positions against their formulas."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtrain.nn.layers import FeedForward, LayerShape, Residual
from mtrain.nn.positions import (
    LearnedPositions,
    RotaryPositions,
    SinusoidalPositions,
    sinusoids,
)


def test_pre_norm_normalises_the_input_and_post_norm_the_sum() -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 3, 8) * 5 + 1
    for pre_norm in (True, False):
        residual = Residual(nn.LayerNorm(8), dropout=0.0, pre_norm=pre_norm)
        out = residual(x, torch.tanh)
        normalised = F.layer_norm(x, (8,))
        expected = x + normalised.tanh() if pre_norm else F.layer_norm(x + x.tanh(), (8,))
        torch.testing.assert_close(out, expected)


def test_the_residual_drops_the_sublayers_output_and_never_its_input() -> None:
    torch.manual_seed(1)
    x = torch.randn(1, 100, 8)
    out = Residual(nn.LayerNorm(8), dropout=0.5, pre_norm=True)(
        x, lambda y: torch.full_like(y, 3.0)
    )
    assert {round(value, 3) for value in (out - x).flatten().tolist()} == {0.0, 6.0}


@pytest.mark.parametrize(
    ("name", "activation"),
    [("relu", F.relu), ("gelu", F.gelu), ("gelu_tanh", partial(F.gelu, approximate="tanh"))],
)
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


def test_only_learned_positions_are_parameters() -> None:
    assert [p.shape for p in LearnedPositions(20, 8, 2).parameters()] == [(20, 8)]
    for fixed in (SinusoidalPositions(20, 8, 2), RotaryPositions(20, 8, 2)):
        assert not list(fixed.parameters())
        assert not fixed.state_dict()


def test_rotary_positions_turn_products_by_distance_alone() -> None:
    rotary = RotaryPositions(40, 16, 2)
    torch.manual_seed(1)
    query, key = torch.randn(2, 1, 2, 1, 8)

    def product(query_place: int, key_place: int) -> torch.Tensor:
        rotate_query, rotate_key = (
            rotary.rotate(torch.tensor([p])) for p in (query_place, key_place)
        )
        assert rotate_query is not None
        assert rotate_key is not None
        return (rotate_query(query) * rotate_key(key)).sum(-1)

    torch.testing.assert_close(product(0, 0), (query * key).sum(-1))
    torch.testing.assert_close(product(30, 22), product(8, 0))
    assert not torch.allclose(product(8, 0), product(7, 0), atol=1e-3)


def test_rms_norm_neither_centres_nor_shifts() -> None:
    x = torch.randn(3, 6) + 2
    scaled = x / x.pow(2).mean(-1, keepdim=True).sqrt()
    shape = LayerShape(6, 2, 8, "relu", 0.0, 0.0, "pre", "rms", 1e-5)
    torch.testing.assert_close(shape.new_norm()(x), scaled)


def test_swiglu_multiplies_by_a_gate() -> None:
    layer, x = FeedForward(6, 10, "swiglu"), torch.randn(2, 3, 6)
    inner, gate = layer.inner(x).split(10, dim=-1)
    torch.testing.assert_close(layer(x), layer.outer(inner * torch.sigmoid(inner) * gate))

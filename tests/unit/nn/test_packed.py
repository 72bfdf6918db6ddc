"""Packed linear layers: the same products as before, of any rows."""

import pytest
import torch
from torch import nn

from mtrain.nn.packed import PackedLinear, can_pack, pack

pytestmark = pytest.mark.skipif(not can_pack(), reason="this torch has no oneDNN")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 24), (5, 24), (3, 7, 24), (2, 3, 4, 24), (300, 24), (0, 24)])
def test_a_packed_layer_is_the_layer(shape: tuple[int, ...], bias: bool) -> None:
    linear = nn.Linear(24, 37, bias)
    x = torch.randn(shape)
    with torch.inference_mode():
        torch.testing.assert_close(PackedLinear(linear)(x), linear(x), atol=1e-5, rtol=1e-5)


def test_inputs_need_not_lie_in_order() -> None:
    linear = nn.Linear(24, 37)
    for x in (torch.randn(24, 5).T, torch.randn(5, 48)[:, ::2], torch.randn(4, 48)[:, 24:]):
        with torch.inference_mode():
            torch.testing.assert_close(PackedLinear(linear)(x), linear(x), atol=1e-5, rtol=1e-5)


def test_packing_twice_is_packing_once() -> None:
    layers = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 3, bias=False)))
    x = torch.randn(2, 8)
    expected = layers(x)
    pack(layers)
    packed = list(layers.modules())
    pack(layers)
    assert list(layers.modules()) == packed
    assert sum(isinstance(layer, PackedLinear) for layer in packed) == 2
    with torch.inference_mode():
        torch.testing.assert_close(layers(x), expected)


def test_it_tells_whether_all_weights_are_packed() -> None:
    recurrent = nn.Sequential(nn.Sequential(nn.LSTM(4, 4), nn.Linear(4, 3)), nn.Linear(3, 3))
    assert pack(recurrent) is False
    assert sum(isinstance(layer, PackedLinear) for layer in recurrent.modules()) == 2
    assert pack(nn.Sequential(nn.Embedding(4, 4), nn.LayerNorm(4), nn.Linear(4, 3))) is True

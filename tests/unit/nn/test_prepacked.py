"""Prepacked linear layers: the same products as before, of any rows."""

import pytest
import torch
from torch import nn

from mtrain.nn.prepacked import PrepackedLinear, has_recurrent_layers, prepacked
from mtrain.runtime.onednn import can_prepack

pytestmark = pytest.mark.skipif(not can_prepack(), reason="this torch has no oneDNN")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 24), (5, 24), (3, 7, 24), (2, 3, 4, 24), (300, 24), (0, 24)])
def test_a_packed_layer_is_the_layer(shape: tuple[int, ...], bias: bool) -> None:
    linear = nn.Linear(24, 37, bias)
    x = torch.randn(shape)
    with torch.inference_mode():
        torch.testing.assert_close(PrepackedLinear(linear)(x), linear(x), atol=1e-5, rtol=1e-5)


def test_inputs_need_not_lie_in_order() -> None:
    linear = nn.Linear(24, 37)
    for x in (torch.randn(24, 5).T, torch.randn(5, 48)[:, ::2], torch.randn(4, 48)[:, 24:]):
        with torch.inference_mode():
            torch.testing.assert_close(PrepackedLinear(linear)(x), linear(x), atol=1e-5, rtol=1e-5)


def test_a_model_is_left_as_it_is_and_its_copy_computes_the_same() -> None:
    tied = nn.Linear(8, 8)
    layers = nn.Sequential(tied, nn.Sequential(nn.ReLU(), nn.Linear(8, 3, bias=False)), tied)
    before, x = list(layers.modules()), torch.randn(2, 8)
    chain = layers[0], layers[1]
    expected = chain[1](chain[0](x))
    copy = prepacked(layers)
    assert list(layers.modules()) == before
    assert sum(isinstance(layer, PrepackedLinear) for layer in copy.modules()) == 3
    with torch.inference_mode():
        torch.testing.assert_close(copy[1](copy[0](x)), expected)


def test_what_is_not_linear_is_shared() -> None:
    model = nn.Sequential(nn.Embedding(4, 4), nn.Linear(4, 3))
    assert prepacked(model)[0].weight is model[0].weight


def test_recurrent_layers_are_told() -> None:
    assert has_recurrent_layers(nn.Sequential(nn.Sequential(nn.LSTM(4, 4)), nn.Linear(4, 3)))
    assert not has_recurrent_layers(nn.Sequential(nn.Embedding(4, 4), nn.Linear(4, 3)))

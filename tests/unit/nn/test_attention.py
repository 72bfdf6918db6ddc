"""Attention against the formula, head by head and query by query."""

import pytest
import torch
from torch import Tensor

from mtrain.nn import attention as attention_module
from mtrain.nn.attention import CrossAttention, SelfAttention, padding_mask
from mtrain.nn.dropout import seeded_dropout

WIDTH, HEADS = 12, 3


@pytest.fixture(params=[0, 256], ids=["fused", "plain"], autouse=True)
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the fused kernel, which on a CPU few keys never ask; or by plain products."""
    monkeypatch.setattr(attention_module, "MOST_UNFUSED", request.param)
    if request.param:
        monkeypatch.delattr(torch.nn.functional, "scaled_dot_product_attention")


def by_the_formula(query: Tensor, keys: Tensor, values: Tensor, visible: Tensor) -> Tensor:
    """softmax(q k / sqrt(Dh)) v for each head apart; (L,D), (S,D), (S,D), (L,S) -> (L,D)."""
    size = WIDTH // HEADS
    mixed = torch.zeros_like(query)
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        for place in range(len(query)):
            scores = keys[:, part] @ query[place, part] / size**0.5
            scores[~visible[place]] = float("-inf")
            mixed[place, part] = scores.softmax(0) @ values[:, part]
    return mixed


def randomised(module: torch.nn.Module) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()


@pytest.mark.parametrize("causal", [False, True], ids=["padded", "causal"])
def test_self_attention_is_the_formula(causal: bool) -> None:
    attention = SelfAttention(WIDTH, HEADS, dropout=0.0)
    randomised(attention)
    x = torch.randn(2, 5, WIDTH)
    lengths = torch.tensor([5, 5] if causal else [5, 3])
    mask = None if causal else padding_mask(lengths, 5, x.dtype)
    out = attention(x, mask, causal)
    for row, length in enumerate(lengths.tolist()):
        visible = torch.ones(5, 5, dtype=torch.bool)
        visible = visible.tril() if causal else visible & (torch.arange(5) < length)
        query, keys, values = attention.in_projection(x[row]).split(WIDTH, dim=-1)
        expected = attention.out_projection(by_the_formula(query, keys, values, visible))
        torch.testing.assert_close(out[row], expected, atol=1e-4, rtol=1e-4)


def test_cross_attention_is_the_formula() -> None:
    attention = CrossAttention(WIDTH, HEADS, dropout=0.0)
    randomised(attention)
    x, memory = torch.randn(2, 3, WIDTH), torch.randn(2, 6, WIDTH)
    lengths = torch.tensor([2, 6])
    out = attention(x, *attention.project_memory(memory), padding_mask(lengths, 6, x.dtype))
    for row, length in enumerate(lengths.tolist()):
        keys, values = attention.memory_projection(memory[row]).split(WIDTH, dim=-1)
        query = attention.query_projection(x[row])
        visible = (torch.arange(6) < length).expand(3, -1)
        expected = attention.out_projection(by_the_formula(query, keys, values, visible))
        torch.testing.assert_close(out[row], expected, atol=1e-4, rtol=1e-4)


def test_attention_drops_weights_in_training_only() -> None:
    attention = SelfAttention(WIDTH, HEADS, dropout=0.5)
    randomised(attention)
    x = torch.randn(1, 5, WIDTH)
    assert not torch.equal(attention(x, None), attention(x, None))
    attention.eval()
    assert torch.equal(attention(x, None), attention(x, None))


def test_a_seed_of_ones_own_decides_which_weights_are_dropped() -> None:
    """Of many keys as well, for which torch's kernel would draw from what all threads share."""
    attention = SelfAttention(WIDTH, HEADS, dropout=0.5)
    randomised(attention)
    x = torch.randn(1, 5, WIDTH)
    outs = []
    for _ in range(2):
        with seeded_dropout(1):
            outs.append(attention(x, None))
    assert torch.equal(*outs)


def test_padding_mask_hides_what_lies_behind_the_length() -> None:
    mask = padding_mask(torch.tensor([1, 3]), 3, torch.float32)
    inf = float("-inf")
    assert mask.tolist() == [[[[0.0, inf, inf]]], [[[0.0, 0.0, 0.0]]]]

"""Block-sparse attention: the pattern, and that every way to compute it agrees with the mask."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mtrain.nn import block_sparse, blocked_attention
from mtrain.nn.block_sparse import (
    BlockPattern,
    Span,
    SparseMask,
    attended_blocks,
    describe_pattern,
    layer_masks,
    spans_of_lengths,
    spans_of_sentences,
)
from mtrain.nn.tiled_attention import TILE, attend_in_tiles, tile_mask

PATTERN = BlockPattern(block_size=4, window_blocks=3, global_blocks=2, random_blocks=2)


@pytest.mark.parametrize("num_blocks", [8, 9, 20, 64])
@pytest.mark.parametrize("layer", [0, 3])
def test_a_block_attends_to_its_window_the_ends_and_random_others(
    num_blocks: int, layer: int
) -> None:
    attended = attended_blocks(PATTERN, num_blocks, layer)
    for block, blocks in enumerate(attended):
        assert (np.diff(blocks) > 0).all()
        if block in (0, num_blocks - 1):
            assert blocks.tolist() == list(range(num_blocks))
            continue
        near = {block - 1, block, block + 1, 0, num_blocks - 1}
        assert near <= set(blocks.tolist())
        assert len(blocks) == len(near) + PATTERN.random_blocks


def test_short_sequences_attend_to_all() -> None:
    for num_blocks in range(1, PATTERN.num_attended + 1):
        assert PATTERN.covers(num_blocks * PATTERN.block_size)
        assert all(len(blocks) == num_blocks
                   for blocks in attended_blocks(PATTERN, num_blocks, 0))  # fmt: skip
    assert not PATTERN.covers(PATTERN.num_attended * PATTERN.block_size + 1)


def test_layers_draw_other_random_blocks_and_the_same_ones_each_time() -> None:
    def drawn(layer: int) -> list[list[int]]:
        return [blocks.tolist() for blocks in attended_blocks(PATTERN, 40, layer)]

    first = drawn(0)
    attended_blocks.cache_clear()
    assert drawn(0) == first
    assert drawn(1) != first


def test_an_odd_global_block_stands_at_the_beginning() -> None:
    pattern = BlockPattern(block_size=1, window_blocks=1, global_blocks=3, random_blocks=0)
    attended = attended_blocks(pattern, 9, 0)
    assert [len(blocks) == 9 for blocks in attended] == [True] * 2 + [False] * 6 + [True]


def projected(width: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(width)
    return [torch.randn(2, 3, width, 6, dtype=dtype, requires_grad=True) for _ in range(3)]


@pytest.mark.parametrize("most_weights", [1, 1 << 22])
@pytest.mark.parametrize("width", [5, 28, 29, 33, 64, 107])
def test_blocked_and_masked_attention_agree_with_their_gradients(
    width: int, most_weights: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocked_attention, "MOST_WEIGHTS", most_weights)
    query, keys, values = projected(width)
    spans = [Span(0, 0, width), Span(1, 0, width // 2), Span(1, width // 2, width - width // 2)]
    mask = SparseMask(PATTERN, spans, layer=1)
    blocked = mask.mix(query, keys, values, 0.0)
    dense = mask.dense(query[:, 0]).double()
    masked = F.scaled_dot_product_attention(query, keys, values, dense)
    torch.testing.assert_close(blocked, masked)
    grad = torch.randn_like(blocked)
    found = torch.autograd.grad(blocked, (query, keys, values), grad)
    expected = torch.autograd.grad(masked, (query, keys, values), grad)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_the_gradient_with_dropout_is_that_of_the_same_draws() -> None:
    inputs = projected(50)
    mask = SparseMask(PATTERN, [Span(0, 0, 50), Span(1, 3, 40)], layer=0)

    def attend(*given: Tensor) -> Tensor:
        torch.manual_seed(3)
        return mask.mix(given[0], given[1], given[2], 0.3)

    assert not torch.equal(attend(*inputs), mask.mix(inputs[0], inputs[1], inputs[2], 0.0))
    assert torch.autograd.gradcheck(attend, inputs, fast_mode=True)


def test_half_precision_is_as_near_as_it_can_be() -> None:
    query, keys, values = projected(90)
    mask = SparseMask(PATTERN, [Span(0, 0, 90), Span(1, 0, 90)], layer=0)
    exact = mask.mix(query, keys, values, 0.0)
    halves = [x.to(torch.bfloat16) for x in (query, keys, values)]
    rounded = mask.mix(halves[0], halves[1], halves[2], 0.0)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.double(), exact, atol=0.03, rtol=0.03)


def test_what_stands_outside_all_sequences_is_zero_and_matters_to_none() -> None:
    query, keys, values = projected(60)
    mask = SparseMask(PATTERN, [Span(0, 0, 41), Span(1, 0, 60)], layer=0)
    before = mask.mix(query, keys, values, 0.0)
    assert not before[0, :, 41:].any()
    with torch.no_grad():
        keys[0, :, 41:] = 1e6
        values[0, :, 41:] = float("nan")
    assert torch.equal(mask.mix(query, keys, values, 0.0)[0, :, :41], before[0, :, :41])


@pytest.mark.parametrize("width", [100, 256, 390])
def test_tiles_are_those_of_the_mask(width: int) -> None:
    pattern = BlockPattern(block_size=10, window_blocks=3, global_blocks=2, random_blocks=1)
    spans = [Span(0, 0, width - 7), Span(1, 0, 70), Span(1, 75, width - 75)]
    mask = SparseMask(pattern, spans, layer=2)
    found = tile_mask(*mask.segments(2, width), torch.device("cpu"))
    may = mask.dense(torch.zeros(2, width)) == 0
    outside = torch.tensor([[0] * (width - 7) + [1] * 7, [0] * 70 + [1] * 5 + [0] * (width - 75)])
    may &= ~outside.bool()[:, None, :, None]  # tiles skip what attends to itself alone
    filler = -width % TILE
    tiles = F.pad(may, (0, filler, 0, filler)).unflatten(3, (-1, TILE)).unflatten(2, (-1, TILE))
    assert torch.equal(found.to_dense().bool(), tiles.any(5).any(3))
    assert found.full_kv_num_blocks is not None
    assert int(found.full_kv_num_blocks.sum()) == int(tiles.all(5).all(3).sum())


def test_a_whole_tile_needs_no_mask() -> None:
    pattern = BlockPattern(block_size=TILE, window_blocks=1, global_blocks=0, random_blocks=1)
    mask = SparseMask(pattern, [Span(0, 0, 4 * TILE)], layer=0)
    found = tile_mask(*mask.segments(1, 4 * TILE), torch.device("cpu"))
    assert found.full_kv_num_blocks is not None
    assert found.full_kv_num_blocks.tolist() == [[[2] * 4]]
    assert not found.kv_num_blocks.any()


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_attention_in_tiles_is_that_of_the_mask() -> None:
    torch.manual_seed(1)
    query, keys, values = (torch.randn(2, 3, 300, 16) for _ in range(3))
    mask = SparseMask(PATTERN, [Span(0, 0, 300), Span(1, 10, 190), Span(1, 200, 57)], layer=1)
    tiles = tile_mask(*mask.segments(2, 300), torch.device("cpu"))
    found = attend_in_tiles(query, keys, values, tiles)
    torch.testing.assert_close(found, mask.mix(query, keys, values, 0.0))


def test_the_sequences_of_a_batch_are_found() -> None:
    assert spans_of_lengths(torch.tensor([4, 1])) == [Span(0, 0, 4), Span(1, 0, 1)]
    packed = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 2, 2]])
    assert spans_of_sentences(packed) == [
        Span(0, 0, 2), Span(0, 2, 3), Span(1, 0, 1), Span(1, 1, 2), Span(1, 3, 2),
    ]  # fmt: skip


def test_only_long_batches_are_computed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_sparse, "DENSE_UP_TO", 40)

    def masks(width: int, pattern: BlockPattern | None = PATTERN) -> list[object]:
        tokens, full = torch.zeros(1, width), torch.zeros(1, 1, 1, width)
        return list(layer_masks(pattern, tokens, lambda: full, lambda: [Span(0, 0, width)], 2))

    for short in (masks(28), masks(100, None)):
        assert all(isinstance(mask, Tensor) and not mask.any() for mask in short)
    for mask in masks(40):
        assert isinstance(mask, Tensor)
        assert mask.isinf().any()
    assert all(isinstance(mask, SparseMask) for mask in masks(41))


@pytest.mark.parametrize("length", [4, 32], ids=["with full attention", "with sparse attention"])
def test_short_texts_in_a_long_row_are_computed_in_blocks(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block_sparse, "DENSE_UP_TO", 40)
    tokens, spans = torch.zeros(1, 64), [Span(0, start, length) for start in range(0, 64, length)]
    masks = layer_masks(PATTERN, tokens, lambda: torch.zeros(1, 1, 64, 64), lambda: spans, 2)
    assert all(isinstance(mask, SparseMask) for mask in masks)


def test_masks_are_made_on_the_processor_whatever_the_default_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mask, x = SparseMask(PATTERN, [Span(0, 0, 64)], 0), torch.zeros(1, 64)
    expected = mask.dense(x)
    with torch.device("meta"):
        assert torch.equal(mask.dense(x), expected)
        tile_mask(*mask.segments(1, 64), torch.device("cpu"))


@pytest.mark.parametrize(
    ("longest", "device_type", "dropout", "head_width", "told"),
    [
        (512, "cpu", 0.1, 64, "is full"),
        (1024, "cuda", 0.0, 64, "is computed in full with a mask, and saves no time"),
        (1025, "cpu", 0.1, 8, "is computed in blocks"),
        (1025, "cuda", 0.0, 64, "is computed in blocks"),
        (1025, "cuda", 0.1, 64, "blocks need model.attention_dropout: 0"),
        (1025, "cuda", 0.0, 8, "and heads of width 16"),
    ],
)
def test_a_dry_run_is_told_how_the_longest_text_is_computed(
    longest: int, device_type: str, dropout: float, head_width: int, told: str
) -> None:
    pattern = BlockPattern(block_size=64, window_blocks=3, global_blocks=2, random_blocks=3)
    assert told in describe_pattern(pattern, longest, device_type, dropout, head_width)

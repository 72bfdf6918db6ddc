"""Block-sparse self-attention: the pattern, and how a batch is computed by it (Zaheer et al. 2020).

A sequence is cut into blocks of tokens. A block of queries attends to a window of blocks around it,
to the first and last blocks, which attend to everything (global), and to a few others drawn once
for each layer. So the cost grows linearly with the length.

The pattern is data: `attended_blocks` alone says which blocks attend to which. It depends on the
length of a sequence and the layer, never on the batch. Three executors read it: full attention with
a mask, for batches of short sequences, where it is fastest; blocks on a CPU; tiles on a GPU.

Shapes: B rows, H heads, L width, Dh width of a head, N blocks of a sequence.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from mtrain.nn.blocked_attention import Blocks, attend_in_blocks
from mtrain.nn.tiled_attention import SMALLEST_WIDTH, attend_in_tiles, tile_mask

_Function = TypeVar("_Function", bound=Callable[..., Tensor])
# a compiled layer calls it as it is: what it does depends on the lengths of a batch
_uncompiled: Callable[[_Function], _Function] = torch.compiler.disable
# tokens up to which full attention with a mask is as fast on a CPU, forward and backward
DENSE_UP_TO = 1024


@dataclass(frozen=True)
class BlockPattern:
    """The size of a block, and how many blocks one attends to, by kind; `window_blocks` is odd."""

    block_size: int
    window_blocks: int
    global_blocks: int
    random_blocks: int

    @property
    def num_attended(self) -> int:
        """The blocks that one attends to: a sequence of no more has full attention."""
        return self.window_blocks + self.global_blocks + self.random_blocks

    def num_blocks(self, length: int) -> int:
        """Return the blocks of a sequence; the last may be short."""
        return -(-length // self.block_size)

    def covers(self, length: int) -> bool:
        """Tell whether all tokens of a sequence attend to all."""
        return self.num_blocks(length) <= self.num_attended


def new_pattern(sizes: Mapping[str, int] | None) -> BlockPattern | None:
    """Return the pattern of some sizes, or none for full attention."""
    return None if sizes is None else BlockPattern(**sizes)


def describe_pattern(
    pattern: BlockPattern, longest: int, device_type: str, dropout: float, head_width: int
) -> str:
    """Return how training computes the longest text, with `dropout` on attention weights."""
    covered = pattern.num_attended * pattern.block_size
    if longest <= covered:
        how = "is full"
    elif longest <= DENSE_UP_TO:
        how = "is computed in full with a mask, and saves no time"
    elif device_type != "cpu" and (dropout or head_width < SMALLEST_WIDTH):
        how = (f"is computed in full with a mask: on a GPU, blocks need model.attention_dropout: 0 "
               f"and heads of width {SMALLEST_WIDTH}")  # fmt: skip
    else:
        how = f"is computed in blocks; up to {DENSE_UP_TO:,} that would save no time"
    return f"block-sparse over {covered:,} tokens; that of the longest text, {longest:,}, {how}"


@lru_cache(maxsize=1024)
def attended_blocks(pattern: BlockPattern, num_blocks: int, layer: int) -> tuple[Blocks, ...]:
    """Return for each block of queries the blocks of keys that it attends to, in order.

    Of the global blocks, one more stands at the beginning than at the end if their number is odd.
    The random blocks are drawn from those that are neither global nor in the window.
    """
    every = np.arange(num_blocks)
    if num_blocks <= pattern.num_attended:
        return (every,) * num_blocks
    ends = pattern.global_blocks // 2
    is_global = (every < pattern.global_blocks - ends) | (every >= num_blocks - ends)
    draws = np.random.default_rng((layer, num_blocks))
    attended = []
    for block in every:
        if is_global[block]:
            attended.append(every)
            continue
        is_near = np.abs(every - block) <= pattern.window_blocks // 2
        others = np.flatnonzero(~is_global & ~is_near)
        drawn = draws.choice(others, pattern.random_blocks, replace=False)
        attended.append(np.sort(np.concatenate([np.flatnonzero(is_global | is_near), drawn])))
    return tuple(attended)


@dataclass(frozen=True)
class Span:
    """A sequence in a batch: its row, where it begins there, and its length."""

    row: int
    start: int
    length: int


def spans_of_lengths(lengths: Tensor) -> list[Span]:
    """Return the sequences of a padded batch, one a row."""
    return [Span(row, 0, length) for row, length in enumerate(lengths.tolist())]


def spans_of_sentences(sentences: Tensor) -> list[Span]:
    """Return the sequences of packed rows, whose tokens (R,L) have the number of theirs."""
    spans = []
    for row, numbers in enumerate(sentences.tolist()):
        starts = [0, *(place for place in range(1, len(numbers))
                       if numbers[place] != numbers[place - 1]), len(numbers)]  # fmt: skip
        spans += [Span(row, start, end - start)
                  for start, end in pairwise(starts)]  # fmt: skip
    return spans


@dataclass(frozen=True)
class SparseMask:
    """The pattern of one layer for the sequences of a batch, to be computed block by block."""

    pattern: BlockPattern
    spans: Sequence[Span]
    layer: int

    def computes(self, query: Tensor, dropout_rate: float) -> bool:
        """Tell whether `mix` computes these queries (B,H,L,Dh); else full attention has to.

        On a GPU it has no dropout on attention weights.
        """
        is_tiled = query.is_cuda and not dropout_rate and query.shape[-1] >= SMALLEST_WIDTH
        return query.is_cpu or is_tiled

    @_uncompiled
    def mix(self, query: Tensor, keys: Tensor, values: Tensor, dropout_rate: float) -> Tensor:
        """Return the mean values (B,H,L,Dh) that queries attend to; zero outside all spans."""
        if query.is_cuda:
            mask = tile_mask(*self.segments(len(query), query.shape[2]), query.device)
            return attend_in_tiles(query, keys, values, mask)
        out = torch.zeros_like(query)
        for span in self.spans:
            tokens = slice(span.start, span.start + span.length)
            own = [x[span.row, :, tokens] for x in (query, keys, values)]
            out[span.row, :, tokens] = attend_in_blocks(
                own[0], own[1], own[2], self._attended(span), self.pattern.block_size, dropout_rate
            )
        return out

    @_uncompiled
    def dense(self, x: Tensor) -> Tensor:
        """Return the mask (B,1,L,L) that full attention adds to its scores, for x (B,L,...).

        What is outside all spans attends to itself.
        """
        segments, allowed = self.segments(*x.shape[:2])
        scores = torch.zeros(allowed.shape, device="cpu").masked_fill_(~allowed, float("-inf"))
        mask = torch.stack([between.index_select(0, own).index_select(1, own)
                            for between, own in zip(scores, segments, strict=True)])  # fmt: skip
        mask.diagonal(dim1=-2, dim2=-1).zero_()
        return mask[:, None].to(x.device)

    def segments(self, num_rows: int, width: int) -> tuple[Tensor, Tensor]:
        """Return the segment (B,L) of each token, and which may attend to which (B,N,N).

        A segment is a block of a sequence; the first is what is outside all spans.
        """
        counts = [1] * num_rows
        for span in self.spans:
            counts[span.row] += self.pattern.num_blocks(span.length)
        segments = np.zeros((num_rows, width), np.int64)
        allowed = np.zeros((num_rows, max(counts), max(counts)), np.bool_)
        begun = [1] * num_rows
        for span in self.spans:
            first, blocks = begun[span.row], np.arange(span.length) // self.pattern.block_size
            segments[span.row, span.start : span.start + span.length] = first + blocks
            for block, attended in enumerate(self._attended(span), first):
                allowed[span.row, block, first + attended] = True
            begun[span.row] += self.pattern.num_blocks(span.length)
        return torch.from_numpy(segments), torch.from_numpy(allowed)

    def _attended(self, span: Span) -> tuple[Blocks, ...]:
        return attended_blocks(self.pattern, self.pattern.num_blocks(span.length), self.layer)


Mask = Tensor | SparseMask


def layer_masks(
    pattern: BlockPattern | None,
    tokens: Tensor,
    full: Callable[[], Tensor],
    spans: Callable[[], Sequence[Span]],
    num_layers: int,
) -> Sequence[Mask]:
    """Return the mask of each layer's self-attention, for the tokens (B,L) of a batch.

    `full` returns the mask of full attention, `spans` the sequences of the batch. Without a
    pattern, and where all sequences are too short for one, all tokens attend to all. On a CPU, wide
    rows with several sequences are never computed whole, however short these are.
    """
    if pattern is None:
        return [full()] * num_layers
    found, width = spans(), tokens.shape[1]
    is_wide, longest = width > DENSE_UP_TO, max(span.length for span in found)
    if pattern.covers(longest) and not (tokens.is_cpu and is_wide and longest < width):
        return [full()] * num_layers
    masks = [SparseMask(pattern, found, layer) for layer in range(num_layers)]
    if is_wide:
        return masks
    return [mask.dense(tokens) for mask in masks]

"""Attention of blocks of queries to some blocks of keys, without the matrix of all weights.

A few blocks of queries at a time gather the keys and values that they attend to. The weights are
computed again in the backward pass (Dao et al. 2022), so that memory grows linearly.

Shapes: H heads, L length, N blocks, M tokens of a block, C blocks of queries at a time, W blocks of
keys that each of these attends to, Dh width of a head.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mtrain.nn.dropout import dropout, new_seed, seeded_dropout

Blocks = npt.NDArray[np.int64]
MOST_WEIGHTS = 1 << 22  # at a time: 17 MB in fp32, which a CPU's cache nearly holds


@dataclass(frozen=True)
class _Chunk:
    """Blocks of queries that attend to equally many blocks of keys."""

    queries: Tensor  # (C,)
    keys: Tensor  # (C,W)


def attend_in_blocks(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    attended: Sequence[Blocks],
    block_size: int,
    dropout_rate: float,
) -> Tensor:
    """Return the mean values (H,L,Dh) that queries attend to, for tensors of that shape.

    `attended` has for each block of queries the numbers of the blocks of keys.
    """
    length = query.shape[1]
    padding = (0, 0, 0, len(attended) * block_size - length)
    blocks = [F.pad(x, padding).unflatten(1, (len(attended), block_size))
              for x in (query, keys, values)]  # fmt: skip
    seed = new_seed() if dropout_rate else 0
    apply: Callable[..., Tensor] = _BlockedAttention.apply
    out = apply(*blocks, attended, length, dropout_rate, seed)
    return out.flatten(1, 2)[:, :length]


class _BlockedAttention(torch.autograd.Function):
    """Takes queries, keys and values (H,N,M,Dh); returns mean values of that shape."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        attended: Sequence[Blocks],
        length: int,
        rate: float,
        seed: int,
    ) -> Tensor:
        out = torch.empty_like(query)
        for number, chunk in enumerate(_chunks(attended, query)):
            gathered = [_gather(x, chunk.keys) for x in (keys, values)]
            weights = _weights(query, gathered[0], chunk, length)
            kept = _drop(weights, rate, seed + number).to(query.dtype)
            out[:, chunk.queries] = kept @ gathered[1]
        ctx.save_for_backward(query, keys, values, out)
        ctx.others = attended, length, rate, seed
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, keys, values, out = ctx.saved_tensors
        attended, length, rate, seed = ctx.others
        of_query, of_keys, of_values = (torch.zeros_like(x) for x in (query, keys, values))
        for number, chunk in enumerate(_chunks(attended, query)):
            gathered = [_gather(x, chunk.keys) for x in (keys, values)]
            weights = _weights(query, gathered[0], chunk, length)
            grad, mixed = (x[:, chunk.queries] for x in (grads[0], out))
            kept = _drop(weights, rate, seed + number).to(query.dtype)
            _scatter(of_values, chunk.keys, kept.transpose(-2, -1) @ grad)
            of_weights = _drop(_precise(grad @ gathered[1].transpose(-2, -1)), rate, seed + number)
            # the softmax's gradient: each row without its mean, which is that of the output
            of_weights -= (grad * mixed).sum(dim=-1, keepdim=True, dtype=of_weights.dtype)
            of_scores = of_weights.mul_(weights).to(query.dtype)
            scale = query.shape[-1] ** -0.5
            of_query[:, chunk.queries] = of_scores @ gathered[0] * scale
            own = query[:, chunk.queries] * scale
            _scatter(of_keys, chunk.keys, of_scores.transpose(-2, -1) @ own)
        return of_query, of_keys, of_values, None, None, None, None


def _chunks(attended: Sequence[Blocks], query: Tensor) -> Iterator[_Chunk]:
    """Yield all blocks of queries, those with equally many blocks of keys together."""
    num_heads, _, block_size, _ = query.shape
    by_count: dict[int, list[int]] = {}
    for block, blocks in enumerate(attended):
        by_count.setdefault(len(blocks), []).append(block)
    for count, of_queries in by_count.items():
        at_once = max(1, MOST_WEIGHTS // (num_heads * block_size * count * block_size))
        for start in range(0, len(of_queries), at_once):
            chosen = of_queries[start : start + at_once]
            both = np.array(chosen), np.stack([attended[block] for block in chosen])
            yield _Chunk(torch.from_numpy(both[0]), torch.from_numpy(both[1]))


def _gather(x: Tensor, blocks: Tensor) -> Tensor:
    """Return the blocks (C,W) of x (H,N,M,Dh) one after another, (H,C,W*M,Dh)."""
    found: Tensor = x.index_select(1, blocks.flatten()).unflatten(1, blocks.shape)
    return found.flatten(2, 3)


def _scatter(total: Tensor, blocks: Tensor, parts: Tensor) -> None:
    """Add parts (H,C,W*M,Dh) to the blocks (C,W) of a total (H,N,M,Dh)."""
    total.index_add_(1, blocks.flatten(), parts.unflatten(2, (blocks.shape[1], -1)).flatten(1, 2))


def _weights(query: Tensor, keys: Tensor, chunk: _Chunk, length: int) -> Tensor:
    """Return the attention weights (H,C,M,W*M) of a chunk, at least in fp32."""
    block_size, scale = query.shape[2], query.shape[-1] ** -0.5
    scores = _precise(query[:, chunk.queries] * scale @ keys.transpose(-2, -1))
    tokens = chunk.keys[:, :, None] * block_size + torch.arange(block_size)  # (C,W,M)
    if int(tokens.max()) >= length:  # filler after the last token
        scores.masked_fill_((tokens >= length).flatten(1)[None, :, None], float("-inf"))
    weights: Tensor = scores.softmax(dim=-1)
    return weights


def _precise(x: Tensor) -> Tensor:
    """Return half precision as fp32."""
    return x.float() if x.dtype.itemsize < 4 else x


def _drop(x: Tensor, rate: float, seed: int) -> Tensor:
    """Drop weights, the same ones again for the same seed."""
    with seeded_dropout(seed):
        return dropout(x, rate, True)

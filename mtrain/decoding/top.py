"""The best continuations of each sentence, without looking at every one of them twice.

Shapes: B sentences, K hypotheses, V vocabulary, C wanted.
"""

from math import inf

import torch
from torch import Tensor

CHUNK = 64


def top_sums(gains: Tensor, scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the C largest of gains (B,K,V) + scores (B,K), largest first, and their places in
    K times V, both (B,C). A hypothesis whose gains or score are no numbers counts as -inf.

    They lie in the C chunks with the largest maxima: one pass over the gains finds those, and only
    they are searched.
    """
    num_rows, vocab_size = gains.shape[1:]
    count = min(count, num_rows * vocab_size)
    if vocab_size < CHUNK or num_rows * vocab_size < 4 * CHUNK * count:  # too little to leave out
        best = _numbers(gains + scores[:, :, None]).flatten(1).topk(count, dim=1)
        return best.values, best.indices
    maxima = _maxima(gains)
    chosen = _numbers(maxima + scores[:, :, None]).flatten(1).topk(count, dim=1).indices
    rows, chunks = chosen // maxima.shape[2], chosen % maxima.shape[2]
    ids = chunks[:, :, None] * CHUNK + torch.arange(CHUNK, device=gains.device)  # (B,C,CHUNK)
    places = (rows[:, :, None] * vocab_size + ids.clamp(max=vocab_size - 1)).flatten(1)
    sums = gains.flatten(1).gather(1, places).view_as(ids) + scores.gather(1, rows)[:, :, None]
    if vocab_size % CHUNK:
        sums = sums.masked_fill(ids >= vocab_size, -inf)
    best = _numbers(sums).flatten(1).topk(count, dim=1)
    return best.values, places.gather(1, best.indices)


def largest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest of each row of (B,V) and its place, both (B,).

    Of a row in which something is no number, the largest is none either.
    """
    vocab_size = logits.shape[1]
    chunks = _maxima(logits).argmax(dim=1, keepdim=True)
    places = (chunks * CHUNK + torch.arange(CHUNK, device=logits.device)).clamp(max=vocab_size - 1)
    best, within = logits.gather(1, places).max(dim=1, keepdim=True)
    return best[:, 0], places.gather(1, within)[:, 0]


def _maxima(gains: Tensor) -> Tensor:
    """Return the largest of each chunk of (...,V); the last chunk may be a short one."""
    num_whole = gains.shape[-1] // CHUNK
    whole = num_whole * CHUNK
    maxima: Tensor = gains[..., :whole].unflatten(-1, (num_whole, CHUNK)).amax(dim=-1)
    if whole < gains.shape[-1]:
        maxima = torch.cat([maxima, gains[..., whole:].amax(dim=-1, keepdim=True)], dim=-1)
    return maxima


def _numbers(sums: Tensor) -> Tensor:
    return sums.nan_to_num(nan=-inf, posinf=inf, neginf=-inf)

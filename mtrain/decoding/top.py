"""Top-k over all continuations of a sentence, in one pass over the vocabulary.

Shapes: B sentences, K hypotheses, V vocabulary, C wanted.
"""

from math import inf

import torch
from torch import Tensor

from mtrain.nn.largest import CHUNK, chunk_maxima


def top_sums(gains: Tensor, scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the C largest of gains (B,K,V) + scores (B,K) and their places in K*V, both (B,C).

    They are sorted, largest first. NaN in gains or scores counts as -inf. The C largest lie in the
    C chunks with the largest maxima: one pass finds these chunks, topk searches only them.
    """
    num_rows, vocab_size = gains.shape[1:]
    count = min(count, num_rows * vocab_size)
    if vocab_size < CHUNK or num_rows * vocab_size < 4 * CHUNK * count:  # too few chunks to skip
        best = _numbers(gains + scores[:, :, None]).flatten(1).topk(count, dim=1)
        return best.values, best.indices
    maxima = chunk_maxima(gains)
    chosen = _numbers(maxima + scores[:, :, None]).flatten(1).topk(count, dim=1).indices
    rows, chunks = chosen // maxima.shape[2], chosen % maxima.shape[2]
    ids = chunks[:, :, None] * CHUNK + torch.arange(CHUNK, device=gains.device)  # (B,C,CHUNK)
    places = (rows[:, :, None] * vocab_size + ids.clamp(max=vocab_size - 1)).flatten(1)
    sums = gains.flatten(1).gather(1, places).view_as(ids) + scores.gather(1, rows)[:, :, None]
    if vocab_size % CHUNK:
        sums = sums.masked_fill(ids >= vocab_size, -inf)
    best = _numbers(sums).flatten(1).topk(count, dim=1)
    return best.values, places.gather(1, best.indices)


def _numbers(sums: Tensor) -> Tensor:
    return sums.nan_to_num(nan=-inf, posinf=inf, neginf=-inf)

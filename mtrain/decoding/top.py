"""The best continuations of each sentence, without looking at every one of them twice.

Shapes: B sentences, K hypotheses, V vocabulary, C wanted.
"""

from math import inf

import torch
from torch import Tensor

from mtrain.nn.largest import CHUNK, chunk_maxima


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

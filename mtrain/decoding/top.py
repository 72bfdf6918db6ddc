"""The largest logits of each row, without looking at every one of them twice.

Shapes: N rows, V vocabulary, C wanted.
"""

import torch
from torch import Tensor

CHUNK = 64


def top_logits(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the values (N,C) and ids (N,C) of the C largest of each row (N,V), largest first.

    The C largest lie in the C chunks with the largest maxima: one pass over the row finds those,
    and only they are searched.
    """
    vocab_size = logits.shape[1]
    count = min(count, vocab_size)
    if vocab_size < 4 * CHUNK * count:  # too little to leave out
        values, ids = logits.topk(count, dim=1)
        return values, ids
    whole = vocab_size - vocab_size % CHUNK
    maxima = logits[:, :whole].unflatten(1, (-1, CHUNK)).amax(dim=2)
    if whole < vocab_size:
        maxima = torch.cat([maxima, logits[:, whole:].amax(dim=1, keepdim=True)], dim=1)
    chunks = maxima.topk(count, dim=1).indices
    within = torch.arange(CHUNK, device=logits.device)
    places = (chunks[:, :, None] * CHUNK + within).flatten(1)
    ids = places.clamp(max=vocab_size - 1)
    candidates = logits.gather(1, ids).masked_fill(places >= vocab_size, float("-inf"))
    values, best = candidates.topk(count, dim=1)
    return values, ids.gather(1, best)

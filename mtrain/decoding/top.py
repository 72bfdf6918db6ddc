"""The largest logits of each row, without looking at every one of them twice.

Shapes: N rows, V vocabulary, C wanted.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 64


def top_logits(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the values (N,C) and ids (N,C) of the C largest of each row (N,V), largest first.

    The C largest lie in the C chunks with the largest maxima: one pass over the row finds those,
    and only they are searched.
    """
    num_rows, vocab_size = logits.shape
    count = min(count, vocab_size)
    if vocab_size < 4 * CHUNK * count:  # too little to leave out
        values, ids = logits.topk(count, dim=1)
        return values, ids
    if vocab_size % CHUNK:
        logits = F.pad(logits, (0, -vocab_size % CHUNK), value=float("-inf"))
    chunks = logits.view(num_rows, -1, CHUNK)
    best = chunks.amax(dim=2).topk(count, dim=1).indices
    candidates = chunks.gather(1, best[:, :, None].expand(-1, -1, CHUNK)).flatten(1)
    values, places = candidates.topk(count, dim=1)
    chunk = best.gather(1, places // CHUNK)
    return values, chunk * CHUNK + places % CHUNK


def log_normaliser(logits: Tensor) -> Tensor:
    """Return log of the sum of exponentials over the last dimension, in fp32."""
    return torch.logsumexp(logits.float(), dim=-1)

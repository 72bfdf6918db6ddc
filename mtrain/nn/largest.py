"""Argmax over logits: maxima of chunks first, then a search of the best chunk only.

Shapes: B rows, V vocabulary.
"""

import torch
from torch import Tensor

CHUNK = 64


def largest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest logit of each row of (B,V) and its index, both (B,).

    Returns NaN for a row that contains NaN.
    """
    vocab_size = logits.shape[1]
    chunks = chunk_maxima(logits).argmax(dim=1, keepdim=True)
    places = (chunks * CHUNK + torch.arange(CHUNK, device=logits.device)).clamp(max=vocab_size - 1)
    best, within = logits.gather(1, places).max(dim=1, keepdim=True)
    return best[:, 0], places.gather(1, within)[:, 0]


def chunk_maxima(logits: Tensor) -> Tensor:
    """Return the maximum of each chunk of (...,V); the last chunk may be shorter."""
    num_whole = logits.shape[-1] // CHUNK
    whole = num_whole * CHUNK
    maxima: Tensor = logits[..., :whole].unflatten(-1, (num_whole, CHUNK)).amax(dim=-1)
    if whole < logits.shape[-1]:
        maxima = torch.cat([maxima, logits[..., whole:].amax(dim=-1, keepdim=True)], dim=-1)
    return maxima

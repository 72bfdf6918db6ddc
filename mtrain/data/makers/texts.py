"""Batches of whole texts, one a row, for a model that reads masked batches.

Shapes: R texts, L the longest with its end mark, K the most places to predict in a text.
"""

from collections.abc import Sequence

import torch

from mtrain.data.batch import MaskedBatch, pad
from mtrain.nn.output import IGNORE_INDEX

NO_TEXT = -1  # sentence index of padding
WANTED = 0  # target of a place to predict: any but IGNORE_INDEX


def pad_texts(
    texts: Sequence[Sequence[int]], places: Sequence[Sequence[int]], eos_id: int
) -> MaskedBatch:
    """Return texts as a batch, each with its end mark, and the places to predict in each.

    Each place has the target WANTED.
    """
    tokens = pad([[*ids, eos_id] for ids in texts], eos_id)
    lengths = torch.tensor([len(ids) + 1 for ids in texts])
    positions = torch.arange(tokens.shape[1]).expand_as(tokens)
    is_text = positions < lengths[:, None]
    num_places = torch.tensor([len(each) for each in places])
    masked = pad(places, 0).long()
    is_wanted = torch.arange(masked.shape[1]) < num_places[:, None]
    return MaskedBatch(
        tokens=tokens,
        sentences=torch.where(is_text, 0, NO_TEXT),
        positions=torch.where(is_text, positions, 0),
        masked=masked,
        targets=torch.where(is_wanted, WANTED, IGNORE_INDEX),
        num_target_tokens=int(num_places.sum()),
    )

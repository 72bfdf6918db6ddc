"""Key-value cache of self-attention, for search with K hypotheses a sentence.

Every token of any hypothesis has a slot in the cache. A mask says which hypotheses see the slot.
So reordering hypotheses moves rows of a small mask, never keys and values.

Shapes: B sentences, K hypotheses a sentence, H heads, Dh width of a head.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

ROOM = 8  # tokens a hypothesis by which the cache grows at a time


class Kept:
    """Select rows of tensors in place: rows that keep their index are not copied."""

    def __init__(self, rows: Tensor) -> None:
        places = torch.arange(len(rows), device=rows.device)
        self._num_rows = len(rows)
        self._places = places[rows != places]
        self._moved = rows[self._places]

    def of(self, part: Tensor) -> Tensor:
        """Return the kept rows of `part`, which is overwritten."""
        part[self._places] = part[self._moved]
        return part[: self._num_rows]


def _slots_wanted(num_filled: int, num_new: int) -> int:
    """Return how many slots to allocate; the first append gets none to spare."""
    return num_filled + (ROOM if num_filled else 1) * num_new


@dataclass
class KeyValueCache:
    """Keys and values (B,H,slots,Dh) of one layer; unfilled slots are zero."""

    keys: Tensor = field(default_factory=lambda: torch.empty(0))
    values: Tensor = field(default_factory=lambda: torch.empty(0))
    num_filled: int = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write keys and values (B,H,K,Dh) into the next slots; return all slots.

        They include unfilled slots, which a mask must hide. A slice of the filled ones would not be
        contiguous, so a matrix product would copy it; whole tensors also have fewer shapes.
        """
        start, end = self.num_filled, self.num_filled + keys.shape[2]
        self.num_filled = end
        if not start:  # the first append sets shape and number format
            self.keys, self.values = keys.contiguous(), values.contiguous()
            return self.keys, self.values
        if end > self.keys.shape[2]:
            more = _slots_wanted(start, keys.shape[2]) - self.keys.shape[2]
            self.keys = F.pad(self.keys, (0, 0, 0, more))
            self.values = F.pad(self.values, (0, 0, 0, more))
        self.keys[:, :, start:end] = keys
        self.values[:, :, start:end] = values
        return self.keys, self.values

    def keep(self, sentences: Kept) -> "KeyValueCache":
        """Keep only some sentences; the old object is no longer valid."""
        if not self.num_filled:
            return KeyValueCache()
        return KeyValueCache(sentences.of(self.keys), sentences.of(self.values), self.num_filled)


@dataclass
class Past:
    """The caches of all layers, and the mask of the slots that each hypothesis sees."""

    caches: list[KeyValueCache]
    mask: Tensor  # (B,1,K,slots), 0 where a hypothesis sees a slot and -inf where not

    def extend(self, num_hypotheses: int) -> None:
        """Show each hypothesis, and no other, the slot that the caches fill next for it."""
        start = self.caches[0].num_filled
        end = start + num_hypotheses
        if end > self.mask.shape[-1]:
            more = _slots_wanted(start, num_hypotheses) - self.mask.shape[-1]
            self.mask = F.pad(self.mask, (0, more), value=float("-inf"))
        self.mask[..., start:end].diagonal(dim1=-2, dim2=-1).fill_(0.0)

    def reorder(self, hypotheses: Tensor) -> None:
        """Select the hypotheses (B,K') of each sentence, by their current numbers."""
        rows = hypotheses[:, None, :, None].expand(-1, 1, -1, self.mask.shape[-1])
        self.mask = self.mask.gather(2, rows)

    def keep(self, sentences: Kept) -> "Past":
        """Keep only some sentences; the old object is no longer valid."""
        return Past([cache.keep(sentences) for cache in self.caches], sentences.of(self.mask))

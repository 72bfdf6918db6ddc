"""What self-attention remembers while K hypotheses of each sentence are written side by side.

Every token read by any hypothesis has a slot in the cache, and a mask says in whose past it is.
So reordering hypotheses moves rows of a small mask, never keys and values.

Shapes: B sentences, K hypotheses a sentence, H heads, Dh width of a head.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class KeyValueCache:
    """Keys and values (B,H,slots,Dh) of one layer, with room for more slots than are filled."""

    keys: Tensor = field(default_factory=lambda: torch.empty(0))
    values: Tensor = field(default_factory=lambda: torch.empty(0))
    num_filled: int = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write keys and values (B,H,K,Dh) into the next slots; return all written so far."""
        start, end = self.num_filled, self.num_filled + keys.shape[2]
        self.num_filled = end
        if not start:  # the first to come bring their shape and number format
            self.keys, self.values = keys.contiguous(), values.contiguous()
            return self.keys, self.values
        if end > self.keys.shape[2]:
            room = max(end, 2 * start) - start
            self.keys = F.pad(self.keys[:, :, :start], (0, 0, 0, room))
            self.values = F.pad(self.values[:, :, :start], (0, 0, 0, room))
        self.keys[:, :, start:end] = keys
        self.values[:, :, start:end] = values
        return self.keys[:, :, :end], self.values[:, :, :end]

    def keep(self, sentences: Tensor) -> "KeyValueCache":
        """Keep only some sentences."""
        if not self.num_filled:
            return KeyValueCache()
        keys, values = (part.index_select(0, sentences) for part in (self.keys, self.values))
        return KeyValueCache(keys, values, self.num_filled)


@dataclass
class Past:
    """All that any hypothesis has read, a cache a layer, and whose past each slot is in."""

    caches: list[KeyValueCache]
    mask: Tensor  # (B,1,K,slots), 0 where a hypothesis looks and -inf where not

    def extend(self, num_hypotheses: int) -> None:
        """Add a slot for the next token of each hypothesis, seen by that hypothesis alone."""
        own = self.mask.new_full((num_hypotheses, num_hypotheses), float("-inf"))
        own = own.fill_diagonal_(0.0).expand(len(self.mask), 1, -1, -1)
        self.mask = torch.cat([self.mask.expand(-1, -1, num_hypotheses, -1), own], dim=-1)

    def reorder(self, hypotheses: Tensor) -> None:
        """Give each sentence the hypotheses (B,K'), numbers of its present ones."""
        rows = hypotheses[:, None, :, None].expand(-1, 1, -1, self.mask.shape[-1])
        self.mask = self.mask.gather(2, rows)

    def keep(self, sentences: Tensor) -> "Past":
        """Keep only some sentences."""
        caches = [cache.keep(sentences) for cache in self.caches]
        return Past(caches, self.mask.index_select(0, sentences))

"""What self-attention remembers while K hypotheses of each sentence are written side by side.

Every token read by any hypothesis has a slot in the cache, and a mask says in whose past it is.
So reordering hypotheses moves rows of a small mask, never keys and values.

Shapes: B sentences, K hypotheses a sentence, H heads, Dh width of a head.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class KeyValueCache:
    """Keys and values of one layer, with room for more slots than are filled."""

    keys: Tensor  # (B,H,slots,Dh)
    values: Tensor  # (B,H,slots,Dh)

    def append(self, keys: Tensor, values: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Write keys and values (B,H,K,Dh) from slot `start` on; return all written so far."""
        if not start:  # the first to come bring their shape and number format
            self.keys, self.values = keys.contiguous(), values.contiguous()
            return self.keys, self.values
        end = start + keys.shape[2]
        if end > self.keys.shape[2]:
            room = max(end, 2 * start) - start
            self.keys = F.pad(self.keys[:, :, :start], (0, 0, 0, room))
            self.values = F.pad(self.values[:, :, :start], (0, 0, 0, room))
        self.keys[:, :, start:end] = keys
        self.values[:, :, start:end] = values
        return self.keys[:, :, :end], self.values[:, :, :end]

    def keep(self, sentences: Tensor) -> "KeyValueCache":
        """Keep only some sentences."""
        return KeyValueCache(
            self.keys.index_select(0, sentences), self.values.index_select(0, sentences)
        )


def reorder_mask(mask: Tensor, hypotheses: Tensor) -> Tensor:
    """Return the mask (B,1,K',slots) of the hypotheses (B,K'), numbers of rows of (B,1,K,slots)."""
    rows = hypotheses[:, None, :, None].expand(-1, 1, -1, mask.shape[-1])
    return mask.gather(2, rows)


def extend_mask(mask: Tensor, num_hypotheses: int) -> Tensor:
    """Add a slot for the next token of each hypothesis, seen by that hypothesis alone."""
    own = mask.new_full((num_hypotheses, num_hypotheses), float("-inf")).fill_diagonal_(0.0)
    own = own.expand(len(mask), 1, -1, -1)
    return torch.cat([mask.expand(-1, -1, num_hypotheses, -1), own], dim=-1)

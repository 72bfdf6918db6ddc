"""Batches: model inputs and expected outputs as tensors. Depends on torch alone.

Shapes: B pairs, S longest source, T longest target; both include the end mark. A packed batch has
several sentences in a row: R rows, S and T the row widths.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, TypeVar

import torch
from torch import Tensor

SomeBatch = TypeVar("SomeBatch", bound="Batch")


@dataclass(frozen=True)
class Batch:
    """Sentence pairs for training: the decoder reads `target_in` and predicts `target_out`."""

    source: Tensor  # (B,S) ids, then </s>, then padding
    source_lengths: Tensor  # (B,)
    target_in: Tensor  # (B,T) <s>, then ids, then padding
    target_out: Tensor  # (B,T) ids, then </s>, then padding
    target_lengths: Tensor  # (B,)
    num_target_tokens: int  # without padding, each </s> included
    # (B,T,S) alignment weights of each token of target_out over the source; they sum to 1 or 0
    links: Tensor | None = None

    def to(self: SomeBatch, device: torch.device) -> SomeBatch:
        """Copy to a device; from page-locked memory the copy is asynchronous."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self: SomeBatch) -> SomeBatch:
        """Copy into page-locked memory, which allows asynchronous copies to a GPU."""
        return self._map(Tensor.pin_memory)

    def _map(self: SomeBatch, function: Callable[[Tensor], Tensor]) -> SomeBatch:
        changed: dict[str, Any] = {name: function(value) for name, value in vars(self).items()
                   if isinstance(value, Tensor)}  # fmt: skip
        return replace(self, **changed)

    def split(self, parts: int) -> list["Batch"]:
        """Return the same pairs as up to `parts` smaller batches."""
        pieces = []
        for rows in torch.arange(len(self.source)).chunk(parts):
            cut = slice(int(rows[0]), int(rows[-1]) + 1)
            width = int(self.source_lengths[cut].max())
            height = int(self.target_lengths[cut].max())
            lengths = self.target_lengths[cut]
            pieces.append(
                Batch(
                    self.source[cut, :width],
                    self.source_lengths[cut],
                    self.target_in[cut, :height],
                    self.target_out[cut, :height],
                    lengths,
                    int(lengths.sum()),
                    None if self.links is None else self.links[cut, :height, :width],
                )
            )
        return pieces


@dataclass(frozen=True, kw_only=True)
class PackedBatch(Batch):
    """Packed pairs: source (R,S), target_in and target_out (R,T); lengths are per row.

    Filler attends to some tokens, but no real token attends to it; its target_out is IGNORE_INDEX.
    """

    source_sentences: Tensor  # (R,S) index of the token's sentence in its row
    target_sentences: Tensor  # (R,T)
    source_positions: Tensor  # (R,S) position of the token in its sentence
    target_positions: Tensor  # (R,T)

    def tensors(self) -> list[Tensor]:
        """Return all tensors of the batch."""
        return [value for value in vars(self).values() if isinstance(value, Tensor)]

    def split(self, parts: int) -> list[Batch]:
        """Return the same rows as up to `parts` smaller batches."""
        pieces: list[Batch] = []
        for rows in torch.arange(len(self.source)).chunk(parts):
            piece = self._map(itemgetter(rows))
            pieces.append(replace(piece, num_target_tokens=int(piece.target_lengths.sum())))
        return pieces


def pad(rows: Sequence[Sequence[int]], padding: int) -> Tensor:
    """Return rows of ids as one tensor, (rows, longest), padded on the right."""
    width = max(map(len, rows))
    return torch.tensor([[*ids, *[padding] * (width - len(ids))] for ids in rows])

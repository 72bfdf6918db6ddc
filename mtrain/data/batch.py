"""Batches: model inputs and expected outputs as tensors.

Shapes: B pairs, S longest source, T longest target; both include the end mark. A packed batch has
several sentences in a row: R rows, S and T the row widths, L that of text, K masked tokens a row.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any, TypeVar

import torch
from torch import Tensor

from mtrain.nn.feature_attention import Features
from mtrain.nn.output import IGNORE_INDEX

SomeBatch = TypeVar("SomeBatch", bound="Batch")


@dataclass(frozen=True)
class Batch(ABC):
    """What a model learns from at once."""

    num_target_tokens: int  # real tokens to predict

    @property
    @abstractmethod
    def num_rows(self) -> int:
        """The number of rows, which `split` distributes."""

    @property
    def num_tokens(self) -> int:
        """The number of real tokens that pass through all layers."""
        return self.num_target_tokens

    @property
    def has_static_shape(self) -> bool:
        """Whether the shape is the same for every batch of as many rows."""
        return False

    @abstractmethod
    def split(self, parts: int) -> Sequence["Batch"]:
        """Return the same rows as up to `parts` smaller batches."""

    def tensors(self) -> list[Tensor]:
        """Return all tensors of the batch."""
        return [value for value in vars(self).values() if isinstance(value, Tensor)]

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


@dataclass(frozen=True, kw_only=True)
class PairBatch(Batch):
    """Sentence pairs for training: the decoder reads `target_in` and predicts `target_out`."""

    source: Tensor  # (B,S) ids, then </s>, then padding
    source_lengths: Tensor  # (B,)
    target_in: Tensor  # (B,T) <s>, then ids, then padding
    target_out: Tensor  # (B,T) ids, then </s>, then padding
    target_lengths: Tensor  # (B,)
    # (B,T,S) alignment weights of each token of target_out over the source; they sum to 1 or 0
    links: Tensor | None = None
    features: Tensor | None = None  # (B,F,Df) states of a features model, in fp16
    feature_lengths: Tensor | None = None  # (B,)
    # (B,T,K) likeliest tokens of a teacher at each place of target_out, and their log
    # probabilities, in fp16
    teacher_ids: Tensor | None = None
    teacher_log_probs: Tensor | None = None

    @property
    def source_features(self) -> Features | None:
        """The features of the sources, if the batch has them."""
        if self.features is None or self.feature_lengths is None:
            return None
        return Features(self.features, self.feature_lengths)

    @property
    def num_rows(self) -> int:
        return len(self.source)

    def __str__(self) -> str:
        widths = f"{self.source.shape[1]} source and {self.target_in.shape[1]} target tokens wide"
        return f"{self.num_rows} pairs, {widths}"

    def split(self, parts: int) -> Sequence["PairBatch"]:
        """Return the same pairs as up to `parts` smaller batches."""
        pieces = []
        for rows in torch.arange(len(self.source)).chunk(parts):
            cut = slice(int(rows[0]), int(rows[-1]) + 1)
            width = int(self.source_lengths[cut].max())
            height = int(self.target_lengths[cut].max())
            lengths = self.target_lengths[cut]
            of_features = None if self.feature_lengths is None else self.feature_lengths[cut]
            depth = 0 if of_features is None else int(of_features.max())
            ids, log_probs = (None if tensor is None else tensor[cut, :height]
                              for tensor in (self.teacher_ids, self.teacher_log_probs))  # fmt: skip
            pieces.append(
                PairBatch(
                    source=self.source[cut, :width],
                    source_lengths=self.source_lengths[cut],
                    target_in=self.target_in[cut, :height],
                    target_out=self.target_out[cut, :height],
                    target_lengths=lengths,
                    num_target_tokens=int(lengths.sum()),
                    links=None if self.links is None else self.links[cut, :height, :width],
                    features=None if self.features is None else self.features[cut, :depth],
                    feature_lengths=of_features,
                    teacher_ids=ids,
                    teacher_log_probs=log_probs,
                )
            )
        return pieces


@dataclass(frozen=True, kw_only=True)
class PackedBatch(PairBatch):
    """Packed pairs: source (R,S), target_in and target_out (R,T); lengths are per row.

    Filler attends to some tokens, but no real token attends to it; its target_out is IGNORE_INDEX.
    """

    source_sentences: Tensor  # (R,S) index of the token's sentence in its row
    target_sentences: Tensor  # (R,T)
    source_positions: Tensor  # (R,S) position of the token in its sentence
    target_positions: Tensor  # (R,T)

    @property
    def has_static_shape(self) -> bool:
        return True

    def split(self, parts: int) -> Sequence[PairBatch]:
        pieces: list[PairBatch] = []
        for rows in torch.arange(self.num_rows).chunk(parts):
            piece = self._map(itemgetter(rows))
            pieces.append(replace(piece, num_target_tokens=int(piece.target_lengths.sum())))
        return pieces


@dataclass(frozen=True, kw_only=True)
class MaskedBatch(Batch):
    """Packed texts with some tokens masked; the model predicts these from the others.

    Filler attends to filler only. Rows with fewer masked tokens than K have IGNORE_INDEX targets.
    """

    tokens: Tensor  # (R,L) ids, some of them replaced, each text with </s>
    sentences: Tensor  # (R,L) index of the token's text in its row, or -1 for filler
    positions: Tensor  # (R,L) position of the token in its sentence
    masked: Tensor  # (R,K) places of the masked tokens in their row
    targets: Tensor  # (R,K) their ids, or IGNORE_INDEX

    @property
    def num_rows(self) -> int:
        return len(self.tokens)

    def __str__(self) -> str:
        return f"{self.num_rows} rows, {self.tokens.shape[1]} tokens wide"

    @property
    def num_tokens(self) -> int:
        return self.tokens.numel() // 2  # there is no decoder

    @property
    def has_static_shape(self) -> bool:
        return True

    def split(self, parts: int) -> Sequence["MaskedBatch"]:
        pieces = [self._map(itemgetter(rows)) for rows in torch.arange(self.num_rows).chunk(parts)]
        return [replace(piece, num_target_tokens=int((piece.targets != IGNORE_INDEX).sum()))
                for piece in pieces]  # fmt: skip


def pad(rows: Sequence[Sequence[int]], padding: int) -> Tensor:
    """Return rows of ids as one tensor, (rows, longest), padded on the right."""
    width = max(map(len, rows))
    return torch.tensor([[*ids, *[padding] * (width - len(ids))] for ids in rows])

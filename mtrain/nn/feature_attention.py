"""Attention over a frozen BERT's states, beside another attention of a layer (Zhu et al. 2020).

A layer does not know of it: it calls what stands beside its attention, if anything does.

Shapes: B sentences, L queries, F tokens of the BERT, Df its width, D width, H heads, Dh width of a
head.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from mtrain.nn.attention import CrossAttention, padding_mask
from mtrain.nn.cache import Kept
from mtrain.nn.dropout import drop_net

# from the output (B,L,D) of a layer's attention and its queries (B,L,D) to the mixed output
Beside = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Features:
    """What a frozen BERT makes of each source; its tokens are others than the source's."""

    states: Tensor  # (B,F,Df) in half precision
    lengths: Tensor  # (B,) at least 1

    def split(self, at_once: int) -> Sequence["Features"]:
        """Return the features of every `at_once` sentences."""
        parts = zip(self.states.split(at_once), self.lengths.split(at_once), strict=True)
        return [Features(states, lengths) for states, lengths in parts]

    def to(self, device: torch.device) -> "Features":
        """Copy to a device."""
        return Features(self.states.to(device), self.lengths.to(device))


@dataclass(frozen=True)
class FeatureMemory:
    """Features as the keys and values (B,H,F,Dh) of each attention of a stack."""

    projected: list[tuple[Tensor, Tensor]]
    mask: Tensor  # (B,1,1,F)

    def keep(self, kept: Kept) -> "FeatureMemory":
        """Keep only some sentences; the old object is no longer valid."""
        projected = [(kept.of(keys), kept.of(values)) for keys, values in self.projected]
        return FeatureMemory(projected, kept.of(self.mask))


class FeatureAttention(CrossAttention):
    """Attention with queries from a layer, keys and values from features."""

    def __init__(
        self, d_model: int, num_heads: int, dropout: float, feature_width: int, drop: float
    ) -> None:
        super().__init__(d_model, num_heads, dropout, feature_width)
        self.drop = drop

    def mix(
        self, keys: Tensor, values: Tensor, mask: Tensor, output: Tensor, query: Tensor
    ) -> Tensor:
        """Return the mean of another attention's output (B,L,D) and this one's; see `drop_net`."""
        own = self(query, keys, values, mask)
        return drop_net(output, own, self.drop, self.training)


class FeatureAttentions(nn.ModuleList):
    """The attention over features of each layer of a stack; empty if the model reads none."""

    def read(self, features: Features | None) -> FeatureMemory | None:
        """Project features for all layers. Only a model that reads features may be given some."""
        assert (features is not None) == bool(len(self))
        if features is None:
            return None
        states = features.states.float()  # autocast rounds them to its own format
        projected = [attention.project_memory(states) for attention in self._attentions]
        return FeatureMemory(
            projected, padding_mask(features.lengths, states.shape[1], states.dtype)
        )

    def beside(self, memory: FeatureMemory | None, num_layers: int) -> Sequence[Beside | None]:
        """Return what each layer calls beside its attention."""
        if memory is None:
            return [None] * num_layers
        return [
            partial(attention.mix, *projected, memory.mask)
            for attention, projected in zip(self._attentions, memory.projected, strict=True)
        ]

    @property
    def _attentions(self) -> Sequence[FeatureAttention]:
        return cast(Sequence[FeatureAttention], self)

"""The Transformer's layers, and their parts around attention: residual, norm, feed-forward.

Shapes: B sentences, T target length, S source length, K hypotheses a sentence, D width. Every
module here returns the shape of its input (...,D).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtrain.nn.attention import CrossAttention, Noted, Rotation, SelfAttention
from mtrain.nn.block_sparse import Mask
from mtrain.nn.cache import KeyValueCache
from mtrain.nn.dropout import dropout
from mtrain.nn.feature_attention import Beside
from mtrain.nn.stacked import StackedLinear

LayerCall = Callable[..., Tensor]  # takes a layer and its arguments
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu_,  # in place: nothing else reads its input
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
    "swiglu": F.silu,  # FeedForward adds the gate
}


@dataclass(frozen=True)
class LayerShape:
    """Sizes and options of a layer; `norm` is `pre` or `post`."""

    d_model: int
    num_heads: int
    ffn_dim: int
    activation: str
    dropout: float
    attention_dropout: float
    norm: str
    norm_type: str
    norm_epsilon: float

    @property
    def attention(self) -> tuple[int, int, float]:
        """Arguments of an attention."""
        return self.d_model, self.num_heads, self.attention_dropout

    def new_norm(self) -> nn.Module:
        """Return LayerNorm (`layer`), or RMSNorm (`rms`), which has its own epsilon."""
        if self.norm_type == "rms":
            return nn.RMSNorm(self.d_model)
        return nn.LayerNorm(self.d_model, self.norm_epsilon)

    def last_norm(self) -> nn.Module:
        """Return the norm after a stack: none with post-norm, whose layers end in one."""
        return self.new_norm() if self.norm == "pre" else nn.Identity()


class Residual(nn.Module):
    """Residual connection around a sub-layer, with norm and dropout.

    Pre-norm: x + dropout(sublayer(norm(x))). Post-norm, as Vaswani et al. 2017:
    norm(x + dropout(sublayer(x))).
    """

    def __init__(self, norm: nn.Module, dropout: float, pre_norm: bool) -> None:
        super().__init__()
        self.norm = norm
        self.dropout = dropout
        self.pre_norm = pre_norm

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the output, in the shape of x."""
        out = dropout(sublayer(self.norm(x) if self.pre_norm else x), self.dropout, self.training)
        total: Tensor = x + out if self.pre_norm else self.norm(x + out)
        return total


def residuals(count: int, shape: LayerShape) -> nn.ModuleList:
    """Return one `Residual` for each sub-layer."""
    return nn.ModuleList(
        Residual(shape.new_norm(), shape.dropout, shape.norm == "pre") for _ in range(count)
    )


class FeedForward(nn.Module):
    """Two linear maps with a non-linearity between them, at each position.

    SwiGLU (Shazeer 2020) multiplies the non-linearity's output by a third linear map, the gate.
    """

    def __init__(self, d_model: int, ffn_dim: int, activation: str) -> None:
        super().__init__()
        self.is_gated = activation == "swiglu"
        self.inner = StackedLinear(d_model, ffn_dim, 2 if self.is_gated else 1)
        self.outer = StackedLinear(ffn_dim, d_model, 1)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of x."""
        inner = self.inner(x)
        if self.is_gated:
            inner, gate = inner.chunk(2, dim=-1)
            out: Tensor = self.outer(self.activation(inner) * gate)
        else:
            out = self.outer(self.activation(inner))
        return out


class SelfAttentionLayer(nn.Module):
    """Self-attention and feed-forward: the layer of an encoder or a decoder-only stack."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        self.self_attention = SelfAttention(*shape.attention)
        self.feed_forward = FeedForward(shape.d_model, shape.ffn_dim, shape.activation)
        self.residuals = residuals(2, shape)

    def forward(
        self,
        x: Tensor,
        mask: Mask,
        rotate: Rotation | None,
        noted: Noted,
        cache: KeyValueCache | None = None,
        beside: Beside | None = None,
    ) -> Tensor:
        """Return (B,L,D) for x (B,L,D); with a cache, append x to it and attend to all in it.

        `beside` adds another attention to the self-attention.
        """

        def attend(y: Tensor) -> Tensor:
            query, keys, values = self.self_attention.project(y, rotate)
            if cache is not None:
                keys, values = cache.append(keys, values)
            out = self.self_attention.attend(query, keys, values, mask, noted=noted)
            return out if beside is None else beside(out, y)

        x = self.residuals[0](x, attend)
        out: Tensor = self.residuals[1](x, self.feed_forward)
        return out


class DecoderLayer(nn.Module):
    """Self-attention over the target so far, cross-attention over the memory, feed-forward."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__()
        self.self_attention = SelfAttention(*shape.attention)
        self.cross_attention = CrossAttention(*shape.attention)
        self.feed_forward = FeedForward(shape.d_model, shape.ffn_dim, shape.activation)
        self.residuals = residuals(3, shape)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        memory_mask: Tensor,
        mask: Tensor | None,
        rotate: Rotation | None,
        noted_own: Noted,
        noted_cross: Noted,
        beside: Beside | None = None,
    ) -> Tensor:
        """Return (B,T,D) for x (B,T,D) and memory (B,S,D).

        `beside` adds another attention to the cross-attention.
        """
        projected = self.cross_attention.project_memory(memory)
        x = self.residuals[0](
            x, lambda y: self.self_attention(y, mask, mask is None, rotate, noted_own)
        )
        return self._attend_and_feed(x, projected, memory_mask, noted_cross, beside)

    def step(
        self,
        x: Tensor,
        memory: tuple[Tensor, Tensor],
        memory_mask: Tensor,
        cache: KeyValueCache,
        past_mask: Tensor,
        rotate: Rotation | None,
        noted: Noted,
        beside: Beside | None,
    ) -> Tensor:
        """Return (B,K,D) for the newest tokens x (B,K,D); `memory` holds keys and values."""

        def attend_to_past(y: Tensor) -> Tensor:
            query, keys, values = self.self_attention.project(y, rotate)
            return self.self_attention.attend(query, *cache.append(keys, values), past_mask)

        x = self.residuals[0](x, attend_to_past)
        return self._attend_and_feed(x, memory, memory_mask, noted, beside)

    def _attend_and_feed(
        self,
        x: Tensor,
        memory: tuple[Tensor, Tensor],
        memory_mask: Tensor,
        noted: Noted,
        beside: Beside | None,
    ) -> Tensor:
        """Apply cross-attention, with what stands beside it, and feed-forward."""

        def attend(y: Tensor) -> Tensor:
            out: Tensor = self.cross_attention(y, *memory, memory_mask, noted)
            return out if beside is None else beside(out, y)

        x = self.residuals[1](x, attend)
        out: Tensor = self.residuals[2](x, self.feed_forward)
        return out


def call_layer(layer: nn.Module, *arguments: Any) -> Tensor:
    """Call a layer; compiled, this function serves all layers of one kind with the same code."""
    out: Tensor = layer(*arguments)
    return out

"""Multi-head scaled dot-product attention (Vaswani et al. 2017, section 3.2).

Shapes: B sentences, L queries, S keys, D width, H heads, Dh = D/H width of a head.
A mask is added to the scores: 0 where a query may attend, -inf where not. Modules keep no state
between calls: the caller owns keys and values that outlive a call. A caller that passes a list
`noted` gets the weights (B,H,L,S) appended to it.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtrain.nn.block_sparse import Mask, SparseMask
from mtrain.nn.dropout import dropout
from mtrain.nn.stacked import StackedLinear

Noted = list[Tensor] | None  # list to append the weights to; None: not wanted
Rotation = Callable[[Tensor], Tensor]  # of queries or keys, for rotary positions
# up to this many keys two plain products are no slower on a CPU: its fused kernel multiplies a few
# rows at a time; with more keys the weights (B,H,L,S) would take too much memory
MOST_UNFUSED = 256


def padding_mask(lengths: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """Return the mask (B,1,1,S) that hides the padding after each sentence."""
    hidden = torch.arange(width, device=lengths.device) >= lengths[:, None]
    mask = torch.zeros(hidden.shape, dtype=dtype, device=lengths.device)
    return mask.masked_fill_(hidden, float("-inf"))[:, None, None, :]


def sentence_mask(queries: Tensor, keys: Tensor, causal: bool = False) -> Tensor:
    """Return the mask (B,1,L,S) of packed sequences.

    `queries` (B,L) and `keys` (B,S) are the sentence numbers of tokens. A query sees only the keys
    of its own sentence; with `causal` none after itself.
    """
    hidden = queries[:, :, None] != keys[:, None]
    if causal:
        hidden |= torch.ones_like(hidden[0]).triu(1)
    device = queries.device.type
    is_half = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if is_half else torch.float32
    mask = torch.zeros(hidden.shape, dtype=dtype, device=queries.device)
    return mask.masked_fill_(hidden, float("-inf"))[:, None]


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """Reshape (B,L,D) to (B,H,L,Dh) as a view."""
    return x.view(*x.shape[:-1], num_heads, -1).transpose(1, 2)


class _Attention(nn.Module):
    def __init__(self, d_model: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.out_projection = StackedLinear(d_model, d_model, 1)

    def attend(
        self,
        query: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Mask | None,
        causal: bool = False,
        noted: Noted = None,
    ) -> Tensor:
        """Attend from queries (B,H,L,Dh) to keys and values (B,H,S,Dh); return (B,L,D)."""
        rate = self.dropout if self.training else 0.0
        if isinstance(mask, SparseMask):
            if noted is None and mask.computes(query, rate):
                return self._joined(mask.mix(query, keys, values, rate))
            mask = mask.dense(query[:, 0])
        # a CPU's fused kernel has no dropout; torch would fall back to this code with its own draws
        is_plain = query.device.type == "cpu" and (keys.shape[2] <= MOST_UNFUSED or rate > 0)
        if noted is None and not is_plain:
            mixed = F.scaled_dot_product_attention(query, keys, values, mask, rate, causal)
        else:
            weights = attention_weights(query, keys, mask, causal)
            if noted is not None:  # the fused kernel does not return its weights
                noted.append(weights)
            mixed = dropout(weights, self.dropout, self.training) @ values
        return self._joined(mixed)

    def _joined(self, mixed: Tensor) -> Tensor:
        """Return the output (B,L,D) of all heads (B,H,L,Dh)."""
        out: Tensor = self.out_projection(mixed.transpose(1, 2).flatten(2))
        return out


def attention_weights(query: Tensor, keys: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Return softmax(query keys' / sqrt(Dh) + mask), shape (B,H,L,S), in fp32."""
    scores = (query * query.shape[-1] ** -0.5 @ keys.transpose(-2, -1)).float()
    if mask is not None:
        scores += mask  # in place: the product's backward pass does not read its result
    if causal:
        scores += torch.full_like(scores[0, 0], float("-inf")).triu(1)
    weights: Tensor = scores.softmax(dim=-1)
    return weights


class SelfAttention(_Attention):
    """Attention with queries, keys and values from the same sequence."""

    def __init__(self, d_model: int, num_heads: int, dropout: float) -> None:
        super().__init__(d_model, num_heads, dropout)
        self.in_projection = StackedLinear(d_model, d_model, 3)

    def project(self, x: Tensor, rotate: Rotation | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Project x (B,L,D) to queries, keys and values, each (B,H,L,Dh)."""
        query, keys, values = (
            split_heads(part, self.num_heads) for part in self.in_projection(x).chunk(3, dim=-1)
        )
        return (rotate(query), rotate(keys), values) if rotate else (query, keys, values)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        causal: bool = False,
        rotate: Rotation | None = None,
        noted: Noted = None,
    ) -> Tensor:
        """Return (B,L,D) for x (B,L,D); `causal` hides from each position those after it."""
        return self.attend(*self.project(x, rotate), mask, causal, noted)


class CrossAttention(_Attention):
    """Attention with queries from the decoder, keys and values from the encoder's memory.

    The memory may have another width than the decoder.
    """

    def __init__(
        self, d_model: int, num_heads: int, dropout: float, memory_width: int | None = None
    ) -> None:
        super().__init__(d_model, num_heads, dropout)
        self.query_projection = StackedLinear(d_model, d_model, 1)
        self.memory_projection = StackedLinear(memory_width or d_model, d_model, 2)

    def project_memory(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Project the memory (B,S,D'), D' its width, to keys and values, each (B,H,S,Dh)."""
        keys, values = self.memory_projection(memory).chunk(2, dim=-1)
        return split_heads(keys, self.num_heads), split_heads(values, self.num_heads)

    def forward(
        self,
        x: Tensor,
        keys: Tensor,
        values: Tensor,
        mask: Tensor | None,
        noted: Noted = None,
    ) -> Tensor:
        """Return (B,L,D) for queries x (B,L,D)."""
        query = split_heads(self.query_projection(x), self.num_heads)
        return self.attend(query, keys, values, mask, noted=noted)

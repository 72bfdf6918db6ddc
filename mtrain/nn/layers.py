"""What surrounds attention in a Transformer layer: residual, normalisation, feed-forward.

Everything here keeps the shape of its input (...,D), D the width.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from mtrain.nn.dropout import dropout

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


class Residual(nn.Module):
    """Adds a sub-layer's output to its input.

    Pre-norm: x + dropout(sublayer(norm(x))). Post-norm, as Vaswani et al. 2017:
    norm(x + dropout(sublayer(x))).
    """

    def __init__(self, d_model: int, dropout: float, pre_norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.dropout = dropout
        self.pre_norm = pre_norm

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the sum, of the shape of x."""
        out = dropout(sublayer(self.norm(x) if self.pre_norm else x), self.dropout, self.training)
        total: Tensor = x + out if self.pre_norm else self.norm(x + out)
        return total


class FeedForward(nn.Module):
    """Two linear maps with a non-linearity between them, at each position."""

    def __init__(self, d_model: int, ffn_dim: int, activation: str) -> None:
        super().__init__()
        self.inner = nn.Linear(d_model, ffn_dim)
        self.outer = nn.Linear(ffn_dim, d_model)
        self.activation = ACTIVATIONS[activation]
        for linear in (self.inner, self.outer):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of x."""
        out: Tensor = self.outer(self.activation(self.inner(x)))
        return out

"""Position encodings: fixed sinusoids and learned vectors.

Shapes: L positions, D width.
"""

import math

import torch
from torch import Tensor, nn


def sinusoids(num_positions: int, d_model: int) -> Tensor:
    """Return the fixed encoding of positions 0, 1, ..., shape (L,D).

    Vaswani et al. 2017, section 3.5, with all sines before all cosines instead of in turn: the
    same up to a permutation of the width, which the embeddings learn anyway.
    """
    rates = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10_000.0) / d_model))
    angles = torch.arange(num_positions)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class SinusoidalPositions(nn.Module):
    """The fixed encoding, as a table."""

    table: Tensor

    def __init__(self, max_positions: int, d_model: int) -> None:
        super().__init__()
        self.register_buffer("table", sinusoids(max_positions, d_model), persistent=False)

    def forward(self, start: int, length: int) -> Tensor:
        """Return the encoding of `length` positions from `start`, shape (L,D)."""
        return self.table[start : start + length]


class LearnedPositions(nn.Module):
    """A vector learned for each position."""

    def __init__(self, max_positions: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_positions, d_model))
        nn.init.normal_(self.weight, std=d_model**-0.5)

    def forward(self, start: int, length: int) -> Tensor:
        """Return the encoding of `length` positions from `start`, shape (L,D)."""
        return self.weight[start : start + length]


POSITIONS: dict[str, type[SinusoidalPositions] | type[LearnedPositions]] = {
    "sinusoidal": SinusoidalPositions,
    "learned": LearnedPositions,
}

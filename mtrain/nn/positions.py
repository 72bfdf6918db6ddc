"""Position encodings: fixed sinusoids, learned vectors, rotations of queries and keys.

Shapes: positions (...) are integers from 0, D width, H heads, Dh width of a head.
Every kind has two methods: `forward` returns what to add to the embeddings; `rotate` returns the
rotation of queries and keys, or None.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtrain.nn.attention import Rotation


def _angles(num_positions: int, width: int) -> Tensor:
    """Return position times rate, (positions, width/2); the rates fall from 1 to 1/10,000."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
    return torch.arange(num_positions)[:, None] * rates


def sinusoids(num_positions: int, d_model: int) -> Tensor:
    """Return the fixed encoding of positions 0, 1, ..., shape (positions, D).

    Vaswani et al. 2017, section 3.5, but with all sines before all cosines, not interleaved. The
    two differ by a permutation of the width, which the embeddings learn anyway.
    """
    angles = _angles(num_positions, d_model)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class SinusoidalPositions(nn.Module):
    """The fixed sinusoidal encoding, stored as a table."""

    table: Tensor

    def __init__(self, max_positions: int, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.register_buffer("table", sinusoids(max_positions, d_model), persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        """Return the encoding (...,D) of positions (...)."""
        return self.table[positions]

    def rotate(self, positions: Tensor) -> Rotation | None:
        """Return None: queries and keys are not rotated."""
        return None


class LearnedPositions(nn.Module):
    """A vector learned for each position."""

    def __init__(self, max_positions: int, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_positions, d_model))
        nn.init.normal_(self.weight, std=d_model**-0.5)

    def forward(self, positions: Tensor) -> Tensor:
        """Return the encoding (...,D) of positions (...)."""
        return F.embedding(positions, self.weight)

    def rotate(self, positions: Tensor) -> Rotation | None:
        """Return None: queries and keys are not rotated."""
        return None


class RotaryPositions(nn.Module):
    """Rotate pairs of elements of queries and keys by angles that grow with the position.

    So the product of a query and a key depends only on their distance (Su et al. 2021, RoPE).
    """

    cosines: Tensor
    sines: Tensor

    def __init__(self, max_positions: int, d_model: int, num_heads: int) -> None:
        super().__init__()
        angles = _angles(max_positions, d_model // num_heads)
        self.register_buffer("cosines", angles.cos(), persistent=False)
        self.register_buffer("sines", angles.sin(), persistent=False)

    def forward(self, positions: Tensor) -> Tensor:
        """Return zero: nothing is added to the embeddings."""
        return self.cosines.new_zeros(())

    def rotate(self, positions: Tensor) -> Rotation | None:
        """Return the rotation of (B,H,L,Dh) at positions (L,), or (B,L) where sentences differ."""
        cosines, sines = self.cosines[positions], self.sines[positions]  # (...,L,Dh/2)
        if positions.dim() == 2:
            cosines, sines = cosines[:, None], sines[:, None]

        def rotate(x: Tensor) -> Tensor:
            first, second = x.chunk(2, dim=-1)
            rotated = (first * cosines - second * sines, second * cosines + first * sines)
            return torch.cat(rotated, dim=-1).to(x.dtype)

        return rotate


Positions = SinusoidalPositions | LearnedPositions | RotaryPositions
POSITIONS: dict[str, type[Positions]] = {
    "sinusoidal": SinusoidalPositions,
    "learned": LearnedPositions,
    "rotary": RotaryPositions,
}

"""The repetition guard: no phrase three times in a row, unless the source has one.

A model that has seen little text can fall into loops: "the the the the".

Shapes: B sentences, K hypotheses each, S source length, t tokens so far, V vocabulary.
"""

import torch
from torch import Tensor

LONGEST = 4  # tokens of a phrase


class RepetitionGuard:
    """Forbids the token that would begin a third copy of the last 1 to LONGEST tokens."""

    def __init__(self, source: Tensor, source_lengths: Tensor) -> None:
        """Take sources (B,S) of lengths (B,)."""
        places = torch.arange(source.shape[1], device=source.device)
        padding = places >= source_lengths[:, None]
        source = torch.where(padding, -1 - places, source)  # no two alike
        self._is_guarded = torch.ones(len(source), dtype=torch.bool, device=source.device)
        for size in range(1, LONGEST + 1):
            if source.shape[1] >= 3 * size:
                is_equal = source[:, size:] == source[:, :-size]
                self._is_guarded &= ~is_equal.unfold(1, 2 * size, 1).all(dim=2).any(dim=1)

    def keep(self, sentences: Tensor) -> None:
        """Keep only the sentences (B',), by their numbers, in that order."""
        self._is_guarded = self._is_guarded[sentences]

    def forbid(self, gains: Tensor, tokens: Tensor) -> None:
        """Set the log probabilities (B,K,V) of forbidden tokens to -inf, in place.

        `tokens` (B,K,1+t) are those so far, after <s>.
        """
        for size in range(1, min(LONGEST, (tokens.shape[2] - 1) // 2) + 1):
            newest, before = tokens[..., -size:], tokens[..., -2 * size : -size]
            is_second = (newest == before).all(dim=2) & self._is_guarded[:, None]
            first = newest[..., :1]
            own = gains.gather(2, first)
            gains.scatter_(2, first, own.masked_fill(is_second[..., None], float("-inf")))

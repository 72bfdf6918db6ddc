"""What a search returns, and how hypotheses of different lengths are compared."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Hypothesis:
    """One translation as ids, without marks."""

    tokens: list[int]
    score: float  # comparable between hypotheses of a sentence; higher is better
    cut_off: bool = False  # the length limit came before the end mark


def normalised_score(log_probability: float, num_tokens: int, length_penalty: float) -> float:
    """Return log probability / length ** penalty; the length counts the end mark."""
    scale: float = num_tokens**length_penalty
    return log_probability / scale

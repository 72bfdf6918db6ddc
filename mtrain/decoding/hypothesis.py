"""Hypotheses, and the scores that compare hypotheses of different lengths.

Shapes: B sentences, K hypotheses, S source length.
"""

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtrain.config.decoding import DecodingConfig
from mtrain.models.base import Head, SearchedModel, State
from mtrain.nn.feature_attention import Features

Doubles = npt.NDArray[np.float64]
Numbers = TypeVar("Numbers", float, Doubles)
LEAST_COVERAGE = 1e-9  # attention floor: a word without attention has a large but finite penalty


@dataclass(frozen=True)
class Hypothesis:
    """One translation as ids, without marks."""

    tokens: list[int]
    score: float  # comparable within a sentence, higher is better; 0 in greedy search
    cut_off: bool = False  # reached the length limit before an end mark


@dataclass(frozen=True)
class Marks:
    """The tokens that every hypothesis begins and ends with; its own ids have neither."""

    start: tuple[int, ...]  # <s>, and the target prefix if there is one
    eos_id: int

    def begin(
        self,
        model: SearchedModel,
        source: Tensor,
        source_lengths: Tensor,
        watched: Head | None = None,
        features: Features | None = None,
    ) -> State:
        """Read sources (B,S), then all start tokens but the last, which the search reads."""
        state = model.encode(source, source_lengths, watched, features)
        for token in self.start[:-1]:
            state = model.read(source.new_full((len(source), 1), token), state)
        return state


NO_HYPOTHESIS = Hypothesis(
    [], float("-inf"), cut_off=True
)  # the result if a model's logits are not finite


@dataclass(frozen=True)
class Scoring:
    """Length normalisation and penalties: turns log probabilities into comparable scores."""

    length_penalty: float = 1.0
    length_norm: str = "power"
    coverage_penalty: float = 0.0
    watched: Head = field(default_factory=Head)  # the attention that measures coverage
    repetition_guard: bool = False

    @staticmethod
    def of(config: DecodingConfig, watched: Head) -> "Scoring":
        """Return the scoring that the configuration sets."""
        return Scoring(
            config.length_penalty,
            config.length_norm,
            config.coverage_penalty,
            watched,
            config.repetition_guard,
        )

    def score(self, log_probability: Numbers, num_tokens: int) -> Numbers:
        """Return log probability / norm(length); the length counts the end mark.

        The norm is length ** length_penalty, or GNMT's ((5 + length) / 6) ** length_penalty
        (Wu et al. 2016, equation 14).
        """
        length = num_tokens if self.length_norm == "power" else (5 + num_tokens) / 6
        scale: float = length**self.length_penalty
        return log_probability / scale

    def coverage(self, attention: Tensor, source_lengths: Tensor) -> Tensor:
        """Return the coverage penalties (B,K), at most 0, for source words with little attention.

        `attention` (B,K,S) is summed over the target so far. Wu et al. 2016, equation 14:
        coverage_penalty times the sum over source words of log(min(attention, 1)).
        """
        places = torch.arange(attention.shape[2], device=attention.device)
        is_padding = places >= source_lengths[:, None, None]
        covered = attention.clamp(LEAST_COVERAGE, 1.0).log().masked_fill(is_padding, 0.0)
        return self.coverage_penalty * covered.sum(dim=2)

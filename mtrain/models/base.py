"""The contract between an architecture and everything that uses one.

Training, search and scoring see `Model` and `State` and nothing behind them.

Shapes: B sentences, K hypotheses a sentence, S source length, T target length, D width,
V target vocabulary. Lengths count the end mark.
"""

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor, nn

from mtrain.data.batches import Batch


class State(ABC):
    """All that decoding needs to know of B sentences with K hypotheses each.

    A state is used up by the call that it is given to; go on with the one returned.
    """

    @abstractmethod
    def reorder(self, hypotheses: Tensor) -> "State":
        """Give each sentence the hypotheses (B,K'), numbers of its present ones."""

    @abstractmethod
    def keep(self, sentences: Tensor) -> "State":
        """Keep only the sentences (B',), by their numbers, in that order."""


class Model(nn.Module, ABC):
    """A conditional model of target tokens given source tokens."""

    max_positions: int  # longest source and longest target, end mark included

    @abstractmethod
    def features(self, batch: Batch) -> Tensor:
        """Return the vectors (B,T,D) from which each target token is predicted."""

    @property
    @abstractmethod
    def output_matrix(self) -> Tensor:
        """The matrix (V,D) that turns a feature vector into logits."""

    def project(self, features: Tensor) -> Tensor:
        """Return logits (...,V) of features (...,D)."""
        return F.linear(features, self.output_matrix)

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits (B,T,V) of every target token, given those before it."""
        return self.project(self.features(batch))

    @abstractmethod
    def encode(self, source: Tensor, source_lengths: Tensor) -> State:
        """Read sources (B,S) of the lengths (B,); the state has one hypothesis a sentence."""

    @abstractmethod
    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one more token (B,K) of each hypothesis; return logits (B,K,V) of the next."""

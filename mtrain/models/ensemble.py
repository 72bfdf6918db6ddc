"""Several models as one: search and scoring see the mean of their probabilities.

The members share both vocabularies; their architectures may differ.

Shapes: B sentences, K hypotheses a sentence, T target length, V target vocabulary.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from math import log
from typing import cast

import torch
from torch import Tensor, nn

from mtrain.data.batch import PairBatch
from mtrain.models.base import Head, SearchedModel, State
from mtrain.nn.feature_attention import Features


@dataclass
class EnsembleState(State):
    """The state of each member; the attention is the first member's."""

    states: Sequence[State]

    def __post_init__(self) -> None:
        self.attention = self.states[0].attention

    def reorder(self, hypotheses: Tensor) -> "EnsembleState":
        return EnsembleState([state.reorder(hypotheses) for state in self.states])

    def keep(self, sentences: Tensor) -> "EnsembleState":
        return EnsembleState([state.keep(sentences) for state in self.states])


class Ensemble(SearchedModel):
    """A model whose logits are the log of the mean of its members' probabilities."""

    def __init__(self, members: Sequence[SearchedModel]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.max_positions = min(member.max_positions for member in members)

    def encode(
        self,
        source: Tensor,
        source_lengths: Tensor,
        watched: Head | None = None,
        features: Features | None = None,
    ) -> EnsembleState:
        first, *others = self._models()
        return EnsembleState(
            [
                first.encode(source, source_lengths, watched, features),
                *(other.encode(source, source_lengths, None, features) for other in others),
            ]
        )

    def read(self, tokens: Tensor, state: State) -> EnsembleState:
        return EnsembleState([model.read(tokens, own) for model, own in self._with_states(state)])

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, EnsembleState]:
        states: list[State] = []

        def logits() -> Iterator[Tensor]:
            for model, own in self._with_states(state):
                of_model, stepped = model.step(tokens, own)
                states.append(stepped)
                yield of_model

        mean = log_mean(logits(), len(self.members))
        return mean, EnsembleState(states)

    def logits(self, batch: PairBatch) -> Tensor:
        return log_mean((model.logits(batch) for model in self._models()), len(self.members))

    def _models(self) -> Iterator[SearchedModel]:
        return cast(Iterator[SearchedModel], iter(self.members))

    def _with_states(self, state: State) -> Iterator[tuple[SearchedModel, State]]:
        assert isinstance(state, EnsembleState)
        return zip(self._models(), state.states, strict=True)


def log_mean(logits: Iterable[Tensor], count: int) -> Tensor:
    """Return the log of the mean probability (...,V) of the logits (...,V) of M members, in fp32.

    log p(token) = log sum_m p_m(token) - log M: the arithmetic mean, so that a token which one
    member finds impossible stays possible. Holds the logits of one member at a time.
    """
    log_probs = (each.float().log_softmax(dim=-1) for each in logits)
    return reduce(torch.logaddexp, log_probs) - log(count)

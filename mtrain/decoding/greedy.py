"""Greedy search over the model contract: each next token is the argmax of the logits.

Shapes: B sentences still in the search, t tokens so far, V vocabulary.
"""

from dataclasses import dataclass, field
from math import isfinite

import torch
from torch import Tensor

from mtrain.decoding.hypothesis import NO_HYPOTHESIS, Hypothesis, Marks
from mtrain.decoding.repetition import RepetitionGuard
from mtrain.decoding.row_selection import rows_to_keep
from mtrain.models.base import SearchedModel
from mtrain.nn.feature_attention import Features
from mtrain.nn.largest import largest


@dataclass
class _Sentence:
    """The output of one sentence so far."""

    limit: int  # maximum number of tokens before the end mark
    tokens: list[int] = field(default_factory=list)
    found: list[Hypothesis] = field(default_factory=list)  # one hypothesis once it is done

    def add(self, token: int, logit: float, eos_id: int) -> None:
        """Append a token; tokens after the end are ignored."""
        if self.found:
            return
        if not isfinite(logit):
            self.found = [NO_HYPOTHESIS]
        elif token == eos_id:
            self.found = [Hypothesis(self.tokens, 0.0)]
        else:
            self.tokens.append(token)
            if len(self.tokens) == self.limit:
                self.found = [Hypothesis(self.tokens, 0.0, cut_off=True)]


def greedy_search(
    model: SearchedModel,
    source: Tensor,
    source_lengths: Tensor,
    limits: list[int],
    marks: Marks,
    repetition_guard: bool = False,
    source_features: Features | None = None,
) -> list[list[Hypothesis]]:
    """Return one hypothesis of each source (B,S); its score is 0, as nothing is compared with it.

    `limits[b]` is the length, without end mark, at which sentence b is cut off.
    """
    eos_id = marks.eos_id
    sentences = [_Sentence(limit) for limit in limits]
    rows = sentences  # the sentence of each row
    state = marks.begin(model, source, source_lengths, features=source_features)
    tokens = source.new_full((len(rows), 1), marks.start[-1])  # (B,1+t)
    guard = RepetitionGuard(source, source_lengths) if repetition_guard else None
    while rows:
        logits, state = model.step(tokens[:, -1:], state)  # (B,1,V)
        if guard is not None:
            guard.forbid(logits, tokens[:, None])
        best, newest = largest(logits[:, 0])
        tokens = torch.cat([tokens, newest[:, None]], dim=1)
        for sentence, token, logit in zip(rows, newest.tolist(), best.tolist(), strict=True):
            sentence.add(token, logit, eos_id)
        kept = rows_to_keep([not sentence.found for sentence in rows])
        if len(kept) < len(rows):
            numbers = torch.tensor(kept, device=source.device, dtype=torch.long)
            rows = [rows[number] for number in kept]
            tokens, state = tokens[numbers], state.keep(numbers)
            if guard is not None:
                guard.keep(numbers)
    return [sentence.found for sentence in sentences]

"""The repetition guard: no phrase three times in a row, unless the source has one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import pytest
import torch

from mtrain.data.batch import PairBatch
from mtrain.decoding.beam import beam_search
from mtrain.decoding.greedy import greedy_search
from mtrain.decoding.hypothesis import Hypothesis, Scoring
from mtrain.decoding.repetition import LONGEST
from mtrain.decoding.sampling import sample_search
from mtrain.models.transformer import Transformer
from tests.unit.decoding.tiny import MARKS, sources, tiny_model

LIMITS = [12, 20, 16, 20]
Search = Callable[[Transformer, PairBatch, bool], list[list[Hypothesis]]]


def beam(model: Transformer, batch: PairBatch, guard: bool) -> list[list[Hypothesis]]:
    scoring = Scoring(repetition_guard=guard)
    return beam_search(model, batch.source, batch.source_lengths, LIMITS, MARKS, 3, 3, scoring)


def greedy(model: Transformer, batch: PairBatch, guard: bool) -> list[list[Hypothesis]]:
    return greedy_search(model, batch.source, batch.source_lengths, LIMITS, MARKS, guard)


def sample(model: Transformer, batch: PairBatch, guard: bool) -> list[list[Hypothesis]]:
    scoring = Scoring(repetition_guard=guard)
    return sample_search(model, batch.source, batch.source_lengths, LIMITS, MARKS, 3, scoring,
                         0.3, 0, 1.0, range(4))  # fmt: skip


def has_three_in_a_row(tokens: Sequence[int]) -> bool:
    return any(
        tokens[start : start + size]
        == tokens[start + size : start + 2 * size]
        == tokens[start + 2 * size : start + 3 * size]
        for size in range(1, LONGEST + 1)
        for start in range(len(tokens) - 3 * size + 1)
    )


def all_tokens(found: list[list[Hypothesis]]) -> list[list[int]]:
    return [hypothesis.tokens for hypotheses in found for hypothesis in hypotheses]


@pytest.mark.parametrize("search", [beam, greedy, sample])
def test_a_model_that_repeats_itself_no_longer_does(search: Search) -> None:
    repeated = 0
    for seed in range(8):
        model, batch = tiny_model(11, seed, sharpness=2.0), sources([2, 5, 9, 4], seed)
        with torch.inference_mode():
            free, guarded = (all_tokens(search(model, batch, guard)) for guard in (False, True))
        repeated += sum(map(has_three_in_a_row, free))
        sources_repeat = [has_three_in_a_row(row[:length].tolist()) for row, length in zip(
            batch.source, batch.source_lengths, strict=True)]  # fmt: skip
        assert not any(sources_repeat)
        assert not any(map(has_three_in_a_row, guarded))
        for one, other in zip(free, guarded, strict=True):
            if search is greedy and not has_three_in_a_row(one):
                assert one[:4] == other[:4]  # nothing is forbidden before two copies
    assert repeated > 5


@pytest.mark.parametrize("search", [beam, greedy, sample])
def test_a_source_that_repeats_itself_may_be_translated_so(search: Search) -> None:
    repeated = 0
    for seed, phrase in product(range(8), ([5], [5, 6])):
        model, batch = tiny_model(11, seed, sharpness=2.0), sources([8, 8, 8, 8])
        row = batch.source[0]
        repeating = torch.cat([torch.tensor(phrase * 3), row])[: len(row) - 1]
        source = torch.cat([repeating, row[-1:]]).expand(4, -1)
        same = replace(batch, source=source)
        with torch.inference_mode():
            free = search(model, same, False)
            assert search(model, same, True) == free
        repeated += sum(map(has_three_in_a_row, all_tokens(free)))
    assert repeated > 5

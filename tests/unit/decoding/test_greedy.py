"""Greedy search against one simple enough to be seen to be right."""

import pytest
import torch
from torch import Tensor

from mtrain.data.batch import PairBatch
from mtrain.decoding.greedy import greedy_search
from mtrain.decoding.hypothesis import NO_HYPOTHESIS, Hypothesis
from mtrain.models.base import State
from mtrain.models.transformer import Transformer, TransformerState
from tests.in_process import EOS_ID
from tests.unit.decoding.tiny import MARKS, CountingModel, Oracle, oracles, sources, tiny_model


def search(model: Transformer, batch: PairBatch, limits: list[int]) -> list[Hypothesis]:
    with torch.inference_mode():
        found = greedy_search(model, batch.source, batch.source_lengths, limits, MARKS)
    return [hypothesis for (hypothesis,) in found]


def plain_greedy(oracle: Oracle, limit: int) -> Hypothesis:
    """Take the likeliest token until it is the end mark, or the limit is reached."""
    tokens: list[int] = []
    while len(tokens) < limit:
        scores = oracle.next(tuple(tokens))
        best = scores.index(max(scores))
        if best == EOS_ID:
            return Hypothesis(tokens, 0.0)
        tokens.append(best)
    return Hypothesis(tokens, 0.0, cut_off=True)


def test_it_equals_a_plain_greedy_search() -> None:
    ends = set()
    for seed in range(12):
        model, batch = tiny_model(11, seed, sharpness=2.0), sources([2, 5, 9, 4], seed)
        found = search(model, batch, [12, 4, 12, 9])
        for oracle, limit, hypothesis in zip(
            oracles(model, batch), [12, 4, 12, 9], found, strict=True
        ):
            assert hypothesis == plain_greedy(oracle, limit)
            ends.add(hypothesis.cut_off)
    assert ends == {True, False}  # both kinds have been met


def test_results_do_not_depend_on_the_rest_of_the_batch() -> None:
    """Of forty; a sentence that stays in the batch though done must not go on."""
    lengths, limits = [2 + row % 9 for row in range(40)], [1 + row for row in range(40)]
    for seed in range(4):
        model, batch = tiny_model(6, seed, sharpness=0.2), sources(lengths)
        together = search(model, batch, limits)
        assert {hypothesis.cut_off for hypothesis in together} == {True, False}
        for row, alone in enumerate(batch.split(40)):
            assert search(model, alone, [limits[row]]) == [together[row]]


@pytest.mark.parametrize("limits", [[60, 60, 60, 60], [9, 2, 5, 2]], ids=["ended", "cut-off"])
def test_finished_sentences_leave_the_batch(limits: list[int]) -> None:
    model, batch = tiny_model(30, sharpness=2.0), sources([2, 5, 9, 4])
    model.__class__ = CountingModel
    assert isinstance(model, CountingModel)
    model.rows_per_step = []
    found = search(model, batch, limits)
    steps = [len(hypothesis.tokens) + (not hypothesis.cut_off) for hypothesis in found]
    assert len(set(steps)) > 1
    expected = [sum(count > step for count in steps) for step in range(max(steps))]
    assert model.rows_per_step == expected


class ForgetfulModel(Transformer):
    """Gives numbers to its first sentence alone, after the first step."""

    def step_features(self, tokens: Tensor, state: State) -> tuple[Tensor, TransformerState]:
        features, state = super().step_features(tokens, state)
        if state.num_steps > 1:
            features[1:, :, 7] = float("nan")
        return features, state


def test_a_model_that_gives_no_numbers_says_nothing_and_is_cut_off() -> None:
    model, batch = tiny_model(30, sharpness=2.0), sources([3, 7, 5])
    (well,) = search(model, next(iter(batch.split(3))), [8])
    model.__class__ = ForgetfulModel
    assert search(model, batch, [8, 8, 8]) == [well, NO_HYPOTHESIS, NO_HYPOTHESIS]

"""Beam search against searches simple enough to be seen to be right."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from mtrain.data.batch import PairBatch
from mtrain.decoding.beam import beam_search, look_ahead
from mtrain.decoding.hypothesis import Hypothesis, Scoring
from mtrain.models import transformer
from mtrain.models.base import State
from mtrain.models.transformer import Transformer, TransformerState
from tests.in_process import EOS_ID
from tests.unit.decoding.tiny import (
    MARKS,
    CountingModel,
    Oracle,
    make_rows,
    oracles,
    sources,
    tiny_model,
)


def search(
    model: Transformer,
    batch: PairBatch,
    limits: list[int],
    beam_size: int,
    length_penalty: float = 1.0,
    n_best: int = 0,  # all
) -> list[list[Hypothesis]]:
    with torch.inference_mode():
        return beam_search(
            model,
            batch.source,
            batch.source_lengths,
            limits,
            MARKS,
            beam_size,
            n_best or beam_size,
            Scoring(length_penalty),
        )


def assert_same(found: list[Hypothesis], expected: list[Hypothesis]) -> None:
    assert [(h.tokens, h.cut_off) for h in found] == [(h.tokens, h.cut_off) for h in expected]
    assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=1e-4)


def ranked(hypotheses: list[Hypothesis]) -> list[Hypothesis]:
    return sorted(hypotheses, key=lambda hypothesis: (hypothesis.cut_off, -hypothesis.score))


def all_there_are(
    oracle: Oracle, vocab_size: int, limit: int, length_penalty: float
) -> list[Hypothesis]:
    """Return every output: those that end within the limit, and those cut off at it."""
    others = [token for token in range(vocab_size) if token != EOS_ID]
    outputs = []
    for length in range(limit + 1):
        is_cut_off = length == limit
        for tokens in product(others, repeat=length):
            said = tokens if is_cut_off else (*tokens, EOS_ID)
            total = sum(oracle.next(said[:place])[token] for place, token in enumerate(said))
            score = total / len(said) ** length_penalty
            outputs.append(Hypothesis(list(tokens), score, is_cut_off))
    return ranked(outputs)


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0])
def test_a_wide_beam_finds_exactly_all_there_is(length_penalty: float) -> None:
    """4 tokens, at most 4 of them: 40 outputs that end and 81 that are cut off."""
    model, batch = tiny_model(4), sources([3, 6])
    found = search(model, batch, [4, 4], 150, length_penalty)
    for oracle, hypotheses in zip(oracles(model, batch), found, strict=True):
        expected = all_there_are(oracle, 4, 4, length_penalty)
        assert len(expected) == 121
        assert_same(hypotheses, expected)


def plain_beam(
    oracle: Oracle, limit: int, beam_size: int, length_penalty: float, n_best: int
) -> list[Hypothesis]:
    """Beam search as one would explain it: one sentence, lists, no cache."""
    open_ones: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    found: list[Hypothesis] = []
    for length in range(1, limit + 1):
        candidates = [
            ((*tokens, token), total + gain)
            for tokens, total in open_ones
            for token, gain in enumerate(oracle.next(tokens))
        ]
        candidates.sort(key=lambda candidate: -candidate[1])
        for tokens, total in candidates[:beam_size]:
            if tokens[-1] == EOS_ID:
                found.append(Hypothesis(list(tokens[:-1]), total / length**length_penalty))
        found = ranked(found)[:beam_size]
        going_on = [candidate for candidate in candidates if candidate[0][-1] != EOS_ID]
        open_ones = going_on[:beam_size]
        ends = [(beam_size, 1)]
        if length_penalty <= 1:
            ends.append((n_best, look_ahead(length)))
        for count, more in ends:
            hope = open_ones[0][1] / (length + more) ** length_penalty
            if len(found) >= count and found[count - 1].score >= hope and length < limit:
                return found
    cut_off = [
        Hypothesis(list(tokens), total / limit**length_penalty, cut_off=True)
        for tokens, total in open_ones
    ]
    return ranked(found + cut_off)[:beam_size]


@pytest.mark.parametrize("length_penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize(("beam_size", "n_best"), [(2, 1), (2, 2), (3, 2), (5, 1), (5, 5)])
def test_it_equals_a_plain_beam_search(beam_size: int, n_best: int, length_penalty: float) -> None:
    cut_off = set()
    for seed in range(6):
        vocab_size = 13 if seed % 2 else 5  # of 5 tokens the end mark is often among the best
        model, batch = tiny_model(vocab_size, seed, sharpness=2.0), sources([2, 7, 4], seed)
        limits = [9, 4, 12]
        found = search(model, batch, limits, beam_size, length_penalty, n_best)
        for row, oracle in enumerate(oracles(model, batch)):
            expected = plain_beam(oracle, limits[row], beam_size, length_penalty, n_best)
            assert_same(found[row], expected)
            cut_off |= {hypothesis.cut_off for hypothesis in found[row]}
    assert cut_off == {True, False}


def test_results_do_not_depend_on_the_rest_of_the_batch() -> None:
    model, batch = tiny_model(30, sharpness=2.0), sources([2, 12, 5, 7, 3, 9])
    limits = [8, 12, 7, 11, 9, 10]
    together = search(model, batch, limits, 4)
    for row, alone in enumerate(batch.split(6)):
        assert_same(search(model, alone, [limits[row]], 4)[0], together[row])
    order = [3, 0, 5, 1]
    some = make_rows(batch, order)
    for place, hypotheses in enumerate(search(model, some, [limits[row] for row in order], 4)):
        assert_same(hypotheses, together[order[place]])


def test_sources_that_are_read_a_few_at_a_time_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, batch = tiny_model(30, sharpness=2.0), sources([2, 12, 5, 7, 3, 9])
    together = search(model, batch, [9] * 6, 4)
    for at_once in (1, 30):  # one and two sources
        monkeypatch.setattr(transformer, "READ_AT_ONCE", at_once)
        for found, expected in zip(search(model, batch, [9] * 6, 4), together, strict=True):
            assert_same(found, expected)


def test_sentences_that_stay_in_the_batch_though_done_change_nothing() -> None:
    """Of forty; a hypothesis longer than its sentence's limit would give them away."""
    lengths, limits = [2 + row % 9 for row in range(40)], [1 + row for row in range(40)]
    for seed in range(2):
        model, batch = tiny_model(6, seed, sharpness=0.2), sources(lengths)
        together = search(model, batch, limits, 4)
        assert any(hypothesis.cut_off for found in together for hypothesis in found)
        for row, alone in enumerate(batch.split(40)):
            assert_same(together[row], search(model, alone, [limits[row]], 4)[0])


class ReadingModel(Transformer):
    """Notes how many sources it reads at a time, and how wide they are."""

    shapes_read: list[tuple[int, ...]]

    def _read_source(self, source: Tensor, *arguments: Any) -> Tensor:
        self.shapes_read.append(tuple(source.shape))
        return super()._read_source(source, *arguments)


def test_sources_are_read_no_wider_than_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model(30)
    model.__class__ = ReadingModel
    assert isinstance(model, ReadingModel)
    model.shapes_read = []
    monkeypatch.setattr(transformer, "READ_AT_ONCE", 24)
    search(model, sources([12, 9, 7, 7, 3]), [9] * 5, 4)
    assert model.shapes_read == [(2, 12), (2, 7), (1, 3)]


class HalfModel(Transformer):
    """Gives logits in half precision, as on a GPU, and notes them."""

    noted: list[Tensor]

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, TransformerState]:
        logits, state = super().step(tokens, state)
        self.noted.append(logits.bfloat16())
        return self.noted[-1], state


def test_scores_of_logits_in_half_precision_are_summed_exactly() -> None:
    model = tiny_model(500)
    model.__class__ = HalfModel
    assert isinstance(model, HalfModel)
    model.noted = []
    ((found,),) = search(model, sources([4]), [9], 1, length_penalty=0.0)
    expected = sum(float(logits.double().log_softmax(-1).max()) for logits in model.noted)
    assert found.score == pytest.approx(expected, abs=1e-4)


def test_a_search_for_the_best_alone_finds_it_with_less_work() -> None:
    num_rows = {1: 0, 5: 0}
    for seed in range(12):
        model, batch = tiny_model(13, seed, sharpness=2.0), sources([2, 7, 4], seed)
        model.__class__ = CountingModel
        assert isinstance(model, CountingModel)
        best = []
        for n_best in num_rows:
            model.rows_per_step = []
            found = search(model, batch, [20] * 3, 5, n_best=n_best)
            best.append([hypotheses[0].tokens for hypotheses in found])
            num_rows[n_best] += sum(model.rows_per_step)
        assert best[0] == best[1]
    assert num_rows[1] < num_rows[5]


class ForkedModel(Transformer):
    """Says one token for sure, may end once, then says it on for sure until it has to end.

    The longer output has the lower probability and the higher score, by a hair.
    """

    fork: int  # tokens of the shorter output, its end mark counted
    length: int  # of the longer one

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, TransformerState]:
        logits, state = super().step(tokens, state)
        word, place = EOS_ID + 1, state.num_steps
        probabilities = torch.full_like(logits, 1e-9)
        probabilities[..., EOS_ID if place == self.length else word] = 1.0
        if place == self.fork:
            short = 0.5
            long = short ** ((self.length - 0.5) / self.fork)
            probabilities[:] = (1 - short - long) / (logits.shape[2] - 2)
            probabilities[..., EOS_ID], probabilities[..., word] = short, long
        return probabilities.log(), state


@pytest.mark.parametrize(("fork", "length"), [(5, 9), (12, 16), (30, 40), (45, 60)])
def test_a_hypothesis_that_wins_by_a_third_of_its_length_is_waited_for(
    fork: int, length: int
) -> None:
    model = tiny_model(100)
    model.__class__ = ForkedModel
    assert isinstance(model, ForkedModel)
    model.fork, model.length = fork, length
    ((found, *_),) = search(model, sources([4]), [length + 9], 2, n_best=1)
    assert len(found.tokens) == length - 1


def test_batches_are_of_few_sizes_and_hardly_larger_than_what_is_open() -> None:
    """Of sixty sentences, of which one is cut off at every step: nothing ends by itself."""
    model, batch = tiny_model(9, sharpness=0.0), sources([3] * 60)
    model.__class__ = CountingModel
    assert isinstance(model, CountingModel)
    model.rows_per_step = []
    search(model, batch, list(range(1, 61)), 3)
    num_open = range(60, 0, -1)
    assert all(
        few <= rows <= few * 5 / 4 for few, rows in zip(num_open, model.rows_per_step, strict=True)
    )
    assert len(set(model.rows_per_step)) < 25


def test_the_length_limit_marks_cut_off_and_they_come_last() -> None:
    seen = set()
    for seed in range(10):
        model, batch = tiny_model(6, seed), sources([4], seed)
        (found,) = search(model, batch, [5], 4)
        for hypothesis in found:
            assert hypothesis.cut_off == (len(hypothesis.tokens) == 5)
            assert EOS_ID not in hypothesis.tokens
        flags = [hypothesis.cut_off for hypothesis in found]
        assert flags == sorted(flags)
        seen |= set(flags)
    assert seen == {True, False}


def test_a_model_that_gives_no_numbers_says_nothing_and_is_cut_off() -> None:
    model = tiny_model(30)
    with torch.no_grad():
        model.output.weight.fill_(float("nan"))
    for found in search(model, sources([3, 7]), [8, 8], 3):
        assert found == [Hypothesis([], float("-inf"), cut_off=True)]

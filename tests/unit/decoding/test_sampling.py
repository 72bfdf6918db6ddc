"""Sampling: seeded, from the right distribution, scored by the model itself."""

from collections import Counter

import pytest
import torch

from mtrain.data.batch import PairBatch
from mtrain.data.plan import derive_seed
from mtrain.decoding.greedy import greedy_search
from mtrain.decoding.hypothesis import Hypothesis, Scoring
from mtrain.decoding.sampling import sample_search
from mtrain.models.transformer import Transformer
from tests.in_process import EOS_ID
from tests.unit.decoding.tiny import MARKS, Oracle, make_rows, oracles, sources, tiny_model


def sample(
    model: Transformer,
    batch: PairBatch,
    num_samples: int,
    seed: int = 1,
    limit: int = 8,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
) -> list[list[Hypothesis]]:
    limits = [limit] * len(batch.source)
    seeds = [derive_seed(seed, row) for row in range(len(limits))]
    with torch.inference_mode():
        return sample_search(
            model, batch.source, batch.source_lengths, limits, MARKS,
            num_samples, Scoring(), temperature, top_k, top_p, seeds,
        )  # fmt: skip


def first_tokens(hypotheses: list[Hypothesis]) -> Counter[int]:
    return Counter(hypothesis.tokens[0] if hypothesis.tokens else EOS_ID
                   for hypothesis in hypotheses)  # fmt: skip


def own_score(oracle: Oracle, hypothesis: Hypothesis) -> float:
    """Return the model's log probability of a hypothesis, over its length."""
    said = [*hypothesis.tokens, *([] if hypothesis.cut_off else [EOS_ID])]
    return sum(oracle.next(tuple(said[:i]))[token] for i, token in enumerate(said)) / len(said)


def test_the_seed_decides() -> None:
    model, batch = tiny_model(30), sources([3, 7])
    assert sample(model, batch, 5) == sample(model, batch, 5)
    assert sample(model, batch, 5) != sample(model, batch, 5, seed=2)


def test_from_the_likeliest_alone_it_is_greedy_search() -> None:
    model, batch = tiny_model(30, sharpness=2.0), sources([3, 7, 5])
    with torch.inference_mode():
        greedy = greedy_search(model, batch.source, batch.source_lengths, [8] * 3, MARKS)
    for options in ({"top_k": 1}, {"top_p": 1e-6}):
        found = sample(model, batch, 3, **options)
        for oracle, drawn, (expected,) in zip(oracles(model, batch), found, greedy, strict=True):
            assert [hypothesis.tokens for hypothesis in drawn] == [expected.tokens] * 3
            assert drawn[0].score == pytest.approx(own_score(oracle, expected), abs=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_frequencies_are_those_of_the_distribution(temperature: float) -> None:
    model, batch = tiny_model(6), make_rows(sources([4]), [0] * 200)
    drawn = sample(model, batch, 100, limit=1, temperature=temperature)
    expected = (torch.tensor(oracles(model, batch)[0].next(())) / temperature).softmax(0)
    counts = first_tokens([hypothesis for hypotheses in drawn for hypothesis in hypotheses])
    for token, probability in enumerate(expected.tolist()):
        # five standard deviations are at most 0.018
        assert counts[token] / 20_000 == pytest.approx(probability, abs=0.018)


def test_top_k_draws_from_the_k_likeliest_only() -> None:
    model, batch = tiny_model(20), sources([4])
    (oracle,) = oracles(model, batch)
    likeliest = torch.tensor(oracle.next(())).topk(3).indices.tolist()
    (drawn,) = sample(model, batch, 500, limit=1, top_k=3)
    assert set(first_tokens(drawn)) == set(likeliest)


@pytest.mark.parametrize("top_p", [0.3, 0.6, 0.9])
def test_top_p_draws_from_the_smallest_set_with_that_probability(top_p: float) -> None:
    model, batch = tiny_model(20), sources([4])
    (oracle,) = oracles(model, batch)
    ordered = sorted(((gain, token) for token, gain in enumerate(oracle.next(()))), reverse=True)
    nucleus: set[int] = set()
    mass = torch.tensor(0.0)
    for gain, token in ordered:
        if mass >= top_p:
            break
        nucleus.add(token)
        mass += torch.tensor(gain).exp()
    assert 1 <= len(nucleus) < 20
    (drawn,) = sample(model, batch, 4000, limit=1, top_p=top_p)
    assert set(first_tokens(drawn)) == nucleus


def test_a_score_is_the_models_own_whatever_was_drawn_from() -> None:
    model, batch = tiny_model(12, sharpness=0.5), sources([4, 6])
    lengths = set()
    found = sample(model, batch, 60, limit=6, temperature=0.7, top_k=8, top_p=0.95)
    for oracle, drawn in zip(oracles(model, batch), found, strict=True):
        assert len(drawn) == 60
        for hypothesis in drawn:
            assert hypothesis.score == pytest.approx(own_score(oracle, hypothesis), abs=1e-4)
            assert hypothesis.cut_off == (len(hypothesis.tokens) == 6)
            lengths.add(len(hypothesis.tokens))
        order = [(hypothesis.cut_off, -hypothesis.score) for hypothesis in drawn]
        assert order == sorted(order)
    assert len(lengths) > 3  # some ended long before others
    assert 6 in lengths


def test_a_model_that_gives_no_numbers_says_nothing_and_is_cut_off() -> None:
    model = tiny_model(30)
    with torch.no_grad():
        model.output.weight.fill_(float("nan"))
    for found in sample(model, sources([3, 7]), 2):
        assert found == [Hypothesis([], float("-inf"), cut_off=True)] * 2

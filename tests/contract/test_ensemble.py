"""An ensemble passes what search takes for granted of a model, whoever its members are."""

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from mtrain.decoding.beam import beam_search
from mtrain.decoding.greedy import greedy_search
from mtrain.decoding.hypothesis import Scoring
from mtrain.models import Head, SearchedModel
from mtrain.models.ensemble import Ensemble, log_mean
from mtrain.nn.prepacked import prepacked
from mtrain.runtime.onednn import can_prepack
from tests.contract.stepping import check_steps
from tests.contract.test_models import (
    LENGTHS,
    MARKS,
    a_batch,
    forced_score,
    logits_of,
    ready_model,
    search,
)

MEMBERS = ("transformer-modern", "rnn-luong", "decoder-only-causal")


def ensemble(names: Sequence[str] = MEMBERS) -> Ensemble:
    return Ensemble([ready_model(name) for name in names])


def log_probs(model: SearchedModel) -> Tensor:
    return logits_of(model, a_batch()).log_softmax(dim=-1)


def assert_close(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", MEMBERS)
def test_an_ensemble_of_one_model_or_of_its_copies_equals_the_model(name: str) -> None:
    model = ready_model(name)
    found = search(model, a_batch(), 6)
    for count in (1, 2):
        whole = ensemble([name] * count)
        assert_close(log_probs(whole), log_probs(model))
        for ours, theirs in zip(search(whole, a_batch(), 6), found, strict=True):
            assert [each.tokens for each in ours] == [each.tokens for each in theirs]
            scores = [each.score for each in theirs]
            assert [each.score for each in ours] == pytest.approx(scores, abs=1e-5)


def test_probabilities_are_the_mean_in_any_order_of_the_members() -> None:
    each = [log_probs(ready_model(name)).exp() for name in MEMBERS]
    wanted = torch.stack(each).mean(dim=0)
    for names in itertools.permutations(MEMBERS):
        assert_close(logits_of(ensemble(names), a_batch()).exp(), wanted)


def test_what_one_member_finds_impossible_stays_possible_and_nan_stays_nan() -> None:
    sure, even = torch.tensor([0.0, -torch.inf]), torch.zeros(2)
    assert_close(log_mean([sure, even], 2).exp(), torch.tensor([0.75, 0.25]))
    assert log_mean([sure, sure], 2).tolist() == [0.0, -torch.inf]
    assert log_mean([even, torch.full((2,), torch.nan)], 2).isnan().all()


def test_step_equals_forward_through_reorder_and_keep() -> None:
    check_steps(ensemble(), a_batch())


def test_forced_score_of_a_beams_output_equals_the_beams_own() -> None:
    model, batch = ensemble(), a_batch()
    for row, hypotheses in enumerate(search(model, batch, 6)):
        for hypothesis in hypotheses:
            score = forced_score(model, batch, row, hypothesis, 1.0)
            assert hypothesis.score == pytest.approx(score, abs=1e-4)


def test_greedy_search_takes_the_argmax_of_the_mean() -> None:
    model, batch = ensemble(), a_batch()
    with torch.inference_mode():
        found = greedy_search(model, batch.source, batch.source_lengths, [6] * len(LENGTHS), MARKS)
        for row, (hypothesis,) in enumerate(found):
            state = model.encode(batch.source[row : row + 1], batch.source_lengths[row : row + 1])
            read = (MARKS.start[-1], *hypothesis.tokens)
            for before, token in zip(read, hypothesis.tokens, strict=False):
                logits, state = model.step(torch.tensor([[before]]), state)
                assert int(logits.argmax()) == token


def test_the_attention_is_the_first_members() -> None:
    batch = a_batch()
    names = ("transformer-modern", "rnn-cho")  # the second has no attention
    first, model = ready_model(names[0]), ensemble(names)
    seen = []
    with torch.inference_mode():
        for each in (first, model):
            state = each.encode(batch.source, batch.source_lengths, Head())
            seen.append(each.step(batch.target_in[:, :1], state)[1].attention)
        found = beam_search(
            model, batch.source, batch.source_lengths, [6] * len(LENGTHS), MARKS, 2, 2,
            Scoring(coverage_penalty=0.3),
        )  # fmt: skip
    assert seen[0] is not None
    assert seen[1] is not None
    assert_close(seen[1], seen[0])
    assert all(len(hypotheses) == 2 for hypotheses in found)


@pytest.mark.skipif(not can_prepack(), reason="this torch has no oneDNN")
def test_packed_weights_say_the_same() -> None:
    model = ensemble()
    assert_close(log_probs(prepacked(model)), log_probs(model))


def test_it_reads_what_each_member_can_read() -> None:
    models = [ready_model(name) for name in MEMBERS]
    models[1].max_positions = 7
    assert Ensemble(models).max_positions == 7

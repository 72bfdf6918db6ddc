"""How hypotheses are compared, against the formulas of GNMT."""

import math

import pytest
import torch

from mtrain.decoding.beam import beam_search
from mtrain.decoding.hypothesis import Scoring
from mtrain.errors import UserError
from mtrain.models.base import Head
from tests.contract.models import TARGET_VOCAB
from tests.contract.test_models import a_batch, ready_model
from tests.in_process import make_batch
from tests.unit.decoding.tiny import MARKS


def test_the_two_norms_of_length() -> None:
    assert Scoring(1.0).score(-6.0, 4) == -1.5
    assert Scoring(0.0).score(-6.0, 4) == -6.0
    assert Scoring(0.2, "gnmt").score(-6.0, 4) == pytest.approx(-6.0 / (9 / 6) ** 0.2)
    assert Scoring(1.0, "gnmt").score(-6.0, 1) == -6.0


def test_coverage_is_lost_on_real_source_tokens_alone_and_more_than_all_is_no_better() -> None:
    attention = torch.tensor([[[0.5, 2.0, 0.25, 0.0]]])
    penalty = Scoring(coverage_penalty=0.2).coverage(attention, torch.tensor([3]))
    assert float(penalty) == pytest.approx(0.2 * (math.log(0.5) + math.log(0.25)))


@pytest.mark.parametrize("name", ["transformer-pre-sinusoidal-all", "rnn-gnmt", "decoder-only"])
def test_a_found_score_is_that_of_the_formula_on_the_forced_output(name: str) -> None:
    """Sentences of several lengths that leave the search at several times."""
    model, batch = ready_model(name), a_batch()
    scoring = Scoring(0.6, "gnmt", 0.3, Head(layer=1))
    marks, lengths = MARKS, batch.source_lengths
    with torch.inference_mode():
        found = beam_search(model, batch.source, lengths, [3, 8, 5, 8, 2], marks, 3, 3, scoring)
    penalties = []
    for row, hypotheses in enumerate(found):
        assert hypotheses
        for hypothesis in hypotheses:
            said = [*hypothesis.tokens, *([] if hypothesis.cut_off else [MARKS.eos_id])]
            length = int(lengths[row])
            forced = make_batch([(length, len(said))], TARGET_VOCAB, TARGET_VOCAB)
            forced.source[:] = batch.source[row, :length]
            forced.target_in[:] = torch.tensor([MARKS.start[0], *said[:-1]])
            with torch.inference_mode():
                log_probabilities = model.logits(forced)[0].log_softmax(-1)
                attention = model.alignment(forced, scoring.watched).sum(1, keepdim=True)
            total = float(log_probabilities.gather(1, torch.tensor(said)[:, None]).sum())
            penalty = float(scoring.coverage(attention, forced.source_lengths))
            penalties.append(penalty)
            expected = scoring.score(total, len(said)) + penalty
            assert hypothesis.score == pytest.approx(expected, abs=1e-4)
    assert max(penalties) <= 0
    assert min(penalties) < -0.1


def test_coverage_needs_attention() -> None:
    model, batch = ready_model("rnn-cho"), a_batch()
    scoring = Scoring(coverage_penalty=0.2)
    with pytest.raises(UserError, match="no attention"):
        beam_search(model, batch.source, batch.source_lengths, [4] * 5, MARKS, 2, 2, scoring)

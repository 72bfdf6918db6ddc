"""Consistency of two passes: what changes in training, and what does not outside of it."""

from pathlib import Path

import pytest
import torch

from mtrain.config.training import ConsistencyConfig
from mtrain.models.base import NO_RECORD
from mtrain.nn.dropout import cut_tokens, cutting_tokens, seeded_dropout
from mtrain.nn.embeddings import tied_embeddings
from mtrain.runtime.precision import choose_precision
from mtrain.training.objectives.base import predict
from mtrain.training.objectives.consistency import Consistency
from tests.contract.models import MODELS, SOURCE_VOCAB, TARGET_VOCAB, new_model
from tests.in_process import (
    assert_same_state,
    learn,
    make_batch,
    open_run,
    run_in_two_sittings,
    small_config,
)

METHODS = ("r_drop", "sim_cut")
SMOOTHING = 0.1


def test_a_share_of_the_tokens_is_cut_off_whole_and_the_rest_is_kept() -> None:
    embeddings = torch.ones(50, 40, 8)
    assert cut_tokens(embeddings) is embeddings
    with seeded_dropout(1), cutting_tokens(0.25):
        cut = cut_tokens(embeddings)
        other = cut_tokens(embeddings)
    assert set(cut.sum(dim=2).unique().tolist()) == {0.0, 8.0}
    assert cut.mean().item() == pytest.approx(0.75, abs=0.03)
    assert not cut.equal(other)
    with seeded_dropout(1), cutting_tokens(0.25):
        assert cut.equal(cut_tokens(embeddings))
    assert cut_tokens(embeddings) is embeddings


def test_token_dropout_is_for_training_and_adds_to_what_is_cut_off() -> None:
    tokens = torch.randint(9, (50, 40))
    embedding = tied_embeddings("none", 9, 9, 8, token_dropout=0.5)[0]

    def kept() -> float:
        with seeded_dropout(1):
            return float(embedding(tokens).any(dim=2).float().mean())

    assert kept() == pytest.approx(0.5, abs=0.03)
    with cutting_tokens(0.25):
        assert kept() == pytest.approx(0.5 * 0.75, abs=0.03)
    embedding.eval()
    assert kept() == 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_every_model_learns_in_two_passes_and_is_validated_in_one(name: str, method: str) -> None:
    torch.manual_seed(1)
    model = new_model(name, dropout=0.0, attention_dropout=0.0, token_dropout=0.0)
    batch = make_batch([(5, 7), (9, 2), (1, 6)], SOURCE_VOCAB, TARGET_VOCAB, 1)
    precision = choose_precision("fp32", "cpu")
    config = ConsistencyConfig.model_validate({"method": method, "cut": 0.3})
    objective = Consistency(config, SMOOTHING, precision)
    validated = predict(model.eval(), batch, precision, SMOOTHING, NO_RECORD)
    torch.testing.assert_close(objective(model, batch).loss, validated.loss)

    one_pass = predict(model.train(), batch, precision, SMOOTHING, NO_RECORD)
    with seeded_dropout(1):
        sums = objective(model, batch)
    torch.testing.assert_close(sums.nll, one_pass.nll)
    if method == "r_drop":  # without dropout both passes are the same
        torch.testing.assert_close(sums.loss, one_pass.loss)
    else:
        assert sums.loss > one_pass.loss + 1e-3
    sums.loss.backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_a_training_resumes_in_the_same_bits(method: str, small_task: Path, tmp_path: Path) -> None:
    training = {"consistency": {"method": method, "cut": 0.3}}
    whole, _ = open_run(small_config(small_task, tmp_path / "whole", training))
    learn(whole, 6)
    config = small_config(small_task, tmp_path / "parted", training)
    assert_same_state(run_in_two_sittings(config, 3, 6), whole)
    plain, _ = open_run(small_config(small_task, tmp_path / "plain"))
    learn(plain, 6)
    assert any(not torch.equal(weight, whole.state.weights[name])
               for name, weight in plain.state.weights.items())  # fmt: skip

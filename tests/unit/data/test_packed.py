"""Packed batches: each pair in one, all of one shape, and they teach what padded ones do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtrain.data.batch import PackedBatch, PairBatch
from mtrain.data.folders import DataFolder
from mtrain.data.makers.packed import NO_PAIR, PackedMaker, fit_shape, plan_packed
from mtrain.data.makers.padded import BatchMaker
from mtrain.nn.output import IGNORE_INDEX
from mtrain.text.tokenizer import TokenizerPair
from mtrain.training.build import Setup
from mtrain.training.objectives.prediction import PredictionObjective
from tests.in_process import SMALL_MODEL, open_setup, small_config
from tests.unit.data.test_plan import lengths, same

MODELS: tuple[dict[str, Any], ...] = (
    {"norm": "pre", "positions": "sinusoidal"},
    {"norm": "post", "positions": "learned", "attention_dropout": 0.0},
    {"positions": "rotary", "norm_type": "rms", "activation": "swiglu", "num_heads": 4},
    {"type": "decoder_only"},
    {"type": "decoder_only", "source_attention": "causal", "positions": "rotary"},
    {"type": "decoder_only", "source_attention": "causal", "source_loss": True},
)


@pytest.mark.parametrize("budget", [1, 128, 1000, 4096, 10**6])
@pytest.mark.parametrize("count", [1, 2, 1000])
def test_every_pair_is_in_one_batch_and_no_row_is_too_full(count: int, budget: int) -> None:
    sides = lengths(count)
    shape = fit_shape(*sides, budget)
    plan = plan_packed(*sides, shape, seed=1, epoch=0)
    found = np.concatenate([rows[rows != NO_PAIR] for rows in plan])
    assert sorted(found.tolist()) == list(range(count))
    for rows in plan:
        assert len(rows) == shape.rows
        for side, width in zip(sides, (shape.source, shape.target), strict=True):
            assert np.where(rows == NO_PAIR, 0, side[rows]).sum(axis=1).max() <= width


def test_rows_are_nearly_full_and_within_the_budget() -> None:
    sides = lengths(20_000)
    shape = fit_shape(*sides, 8192)
    assert shape.rows * max(shape.source, shape.target) <= 8192
    plan = plan_packed(*sides, shape, seed=1, epoch=0)
    tokens = sides[1].sum() - sides[1][plan[-1][plan[-1] != NO_PAIR]].sum()
    assert tokens / ((len(plan) - 1) * shape.rows * shape.target) > 0.95


def test_the_plan_depends_on_seed_and_epoch_alone() -> None:
    sides = lengths(1000)
    shape = fit_shape(*sides, 1024)
    plan = plan_packed(*sides, shape, seed=5, epoch=3)
    assert same(plan, plan_packed(*sides, shape, seed=5, epoch=3))
    assert not same(plan, plan_packed(*sides, shape, seed=6, epoch=3))
    assert not same(plan, plan_packed(*sides, shape, seed=5, epoch=4))


def new_setup(small_task: Path, tmp_path: Path, **model: Any) -> Setup:
    keys = {**SMALL_MODEL, "dropout": 0.0, **model}
    if model.get("type") == "decoder_only":
        del keys["encoder_layers"]
    return open_setup(small_config(small_task, tmp_path / "run", {}, keys))


def makers(setup: Setup, budget: int) -> tuple[PackedMaker, BatchMaker]:
    given = setup.store, tokenizers_of(setup), 40, budget
    return PackedMaker(*given), BatchMaker(*given)


def tokenizers_of(setup: Setup) -> TokenizerPair:
    return DataFolder(setup.config.data_path).tokenizers()


def test_rows_hold_the_sentences_of_the_store(small_task: Path, tmp_path: Path) -> None:
    setup = new_setup(small_task, tmp_path)
    maker, _ = makers(setup, 512)
    store, end, start = (
        setup.store,
        tokenizers_of(setup).target.eos_id,
        tokenizers_of(setup).target.bos_id,
    )
    for rows in maker.plan(np.arange(len(store)), 1, 0):
        batch = maker.make(rows)
        assert batch.num_target_tokens == int((batch.target_out != IGNORE_INDEX).sum())
        for row, pairs in enumerate(rows):
            expected = [store.target.row(pair) for pair in pairs if pair != NO_PAIR]
            out = [token for ids in expected for token in (*ids, end)]
            real = int(batch.target_lengths[row])
            assert batch.target_out[row, :real].tolist() == out
            assert (batch.target_out[row, real:] == IGNORE_INDEX).all()
            read = [token for ids in expected for token in (start, *ids)]
            assert batch.target_in[row, :real].tolist() == read
            source = [token for pair in pairs if pair != NO_PAIR
                      for token in (*store.source.row(pair), end)]  # fmt: skip
            assert batch.source[row, : int(batch.source_lengths[row])].tolist() == source


def test_a_plan_has_the_rows_of_the_mix_as_often_as_it_has_them(
    small_task: Path, tmp_path: Path
) -> None:
    setup = new_setup(small_task, tmp_path)
    rows = np.concatenate([np.arange(3, 200, 7), np.arange(3, 60, 7)])
    for maker in makers(setup, 256):
        planned = np.concatenate([batch.ravel() for batch in maker.plan(rows, 1, 0)])
        assert sorted(planned[planned != NO_PAIR].tolist()) == sorted(rows.tolist())


def gradients(setup: Setup, batches: list[PairBatch]) -> tuple[list[float], dict[str, Tensor]]:
    setup.state.model.zero_grad()
    sums, objective = [0.0, 0.0], PredictionObjective(setup.config, setup.precision)
    for batch in batches:
        found = objective(setup.state.model, batch)
        found.loss.backward()
        sums = [sums[0] + float(found.loss.detach()), sums[1] + float(found.nll)]
    return sums, {name: p.grad.clone() for name, p in setup.state.model.named_parameters()
                  if p.grad is not None}  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("budget", [128, 2048])
def test_losses_and_gradients_are_those_of_padded_batches(
    budget: int, model: dict[str, Any], small_task: Path, tmp_path: Path
) -> None:
    setup = new_setup(small_task, tmp_path, **model)
    setup.state.model.train()  # without dropout; a decoder-only model may learn the source
    maker, padded = makers(setup, budget)
    plan = maker.plan(np.arange(len(setup.store)), 1, 0)
    for rows in (plan[0], plan[-1]):
        packed = maker.make(rows)
        expected, wanted = gradients(setup, [padded.make(rows[rows != NO_PAIR])])
        for batches in ([packed], packed.split(3)):
            assert all(isinstance(batch, PackedBatch) for batch in batches)
            told, found = gradients(setup, batches)
            assert told == pytest.approx(expected, rel=1e-5)
            assert found.keys() == wanted.keys()
            for name, gradient in found.items():
                torch.testing.assert_close(gradient, wanted[name], atol=2e-4, rtol=1e-3)

"""Packed batches: each pair in one, all of one shape, and they teach what padded ones do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtrain.data.batches import Batch, BatchMaker
from mtrain.data.packing import NOTHING, PackedBatch, PackedMaker, fit_shape, plan_packed
from mtrain.training.loss import batch_loss
from mtrain.training.parts import Parts
from tests.in_process import SMALL_MODEL, open_parts, small_config
from tests.unit.data.test_plan import lengths, same

MODELS: tuple[dict[str, Any], ...] = (
    {"norm": "pre", "positions": "sinusoidal"},
    {"norm": "post", "positions": "learned", "attention_dropout": 0.0},
    {"positions": "rotary", "norm_type": "rms", "activation": "swiglu", "num_heads": 4},
)


@pytest.mark.parametrize("budget", [1, 128, 1000, 4096, 10**6])
@pytest.mark.parametrize("count", [1, 2, 1000])
def test_every_pair_is_in_one_batch_and_no_row_is_too_full(count: int, budget: int) -> None:
    sides = lengths(count)
    shape = fit_shape(*sides, budget)
    plan = plan_packed(*sides, shape, seed=1, epoch=0)
    found = np.concatenate([rows[rows != NOTHING] for rows in plan])
    assert sorted(found.tolist()) == list(range(count))
    for rows in plan:
        assert len(rows) == shape.rows
        for side, width in zip(sides, (shape.source, shape.target), strict=True):
            assert np.where(rows == NOTHING, 0, side[rows]).sum(axis=1).max() <= width


def test_rows_are_nearly_full_and_within_the_budget() -> None:
    sides = lengths(20_000)
    shape = fit_shape(*sides, 8192)
    assert shape.rows * max(shape.source, shape.target) <= 8192
    plan = plan_packed(*sides, shape, seed=1, epoch=0)
    tokens = sides[1].sum() - sides[1][plan[-1][plan[-1] != NOTHING]].sum()
    assert tokens / ((len(plan) - 1) * shape.rows * shape.target) > 0.95


def test_the_plan_depends_on_seed_and_epoch_alone() -> None:
    sides = lengths(1000)
    shape = fit_shape(*sides, 1024)
    plan = plan_packed(*sides, shape, seed=5, epoch=3)
    assert same(plan, plan_packed(*sides, shape, seed=5, epoch=3))
    assert not same(plan, plan_packed(*sides, shape, seed=6, epoch=3))
    assert not same(plan, plan_packed(*sides, shape, seed=5, epoch=4))


def new_parts(small_task: Path, tmp_path: Path, **model: Any) -> Parts:
    return open_parts(small_config(small_task, tmp_path / "run", {}, {**SMALL_MODEL, **model}))


def makers(parts: Parts, budget: int) -> tuple[PackedMaker, BatchMaker]:
    return (
        PackedMaker(parts.store, parts.tokenizers, 40, budget),
        BatchMaker(parts.store, parts.tokenizers, 40, budget),
    )


def test_rows_hold_the_sentences_of_the_store(small_task: Path, tmp_path: Path) -> None:
    parts = new_parts(small_task, tmp_path)
    maker, _ = makers(parts, 512)
    store, end, start = (
        parts.store,
        parts.tokenizers.target.end_id,
        parts.tokenizers.target.start_id,
    )
    for rows in maker.plan(1, 0):
        batch = maker.make(rows)
        assert batch.num_target_tokens == int((batch.target_out != NOTHING).sum())
        for row, pairs in enumerate(rows):
            expected = [store.target.sentence(pair) for pair in pairs if pair != NOTHING]
            out = [token for ids in expected for token in (*ids, end)]
            real = int(batch.target_lengths[row])
            assert batch.target_out[row, :real].tolist() == out
            assert (batch.target_out[row, real:] == NOTHING).all()
            read = [token for ids in expected for token in (start, *ids)]
            assert batch.target_in[row, :real].tolist() == read
            source = [token for pair in pairs if pair != NOTHING
                      for token in (*store.source.sentence(pair), end)]  # fmt: skip
            assert batch.source[row, : int(batch.source_lengths[row])].tolist() == source


def gradients(parts: Parts, batches: list[Batch]) -> tuple[list[float], dict[str, Tensor]]:
    parts.model.zero_grad()
    sums = [0.0, 0.0]
    for batch in batches:
        loss, nll = batch_loss(parts.model, batch, parts.precision, 0.1)
        loss.backward()
        sums = [sums[0] + float(loss.detach()), sums[1] + float(nll)]
    return sums, {name: p.grad.clone() for name, p in parts.model.named_parameters()
                  if p.grad is not None}  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("budget", [128, 2048])
def test_losses_and_gradients_are_those_of_padded_batches(
    budget: int, model: dict[str, Any], small_task: Path, tmp_path: Path
) -> None:
    parts = new_parts(small_task, tmp_path, **model)
    parts.model.eval()
    maker, padded = makers(parts, budget)
    for rows in (maker.plan(1, 0)[0], maker.plan(1, 0)[-1]):
        packed = maker.make(rows)
        expected, wanted = gradients(parts, [padded.make(rows[rows != NOTHING])])
        for batches in ([packed], packed.split(3)):
            assert all(isinstance(batch, PackedBatch) for batch in batches)
            told, found = gradients(parts, batches)
            assert told == pytest.approx(expected, rel=1e-5)
            assert found.keys() == wanted.keys()
            for name, gradient in found.items():
                torch.testing.assert_close(gradient, wanted[name], atol=2e-4, rtol=1e-3)

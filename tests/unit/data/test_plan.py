"""The batch plan: a pure function; each pair once; within the budget; little padding."""

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mtrain.data.plan import derive_seed, plan_epoch, plan_in_order
from mtrain.data.store import IntArray

BUDGET = 1024


def lengths(count: int, seed: int = 1) -> tuple[IntArray, IntArray]:
    """Return lengths like those of real sentences and their translations."""
    random = np.random.default_rng(seed)
    source = np.clip(random.lognormal(2.8, 0.6, count), 2, 200).astype(np.int64)
    target = np.clip(source * random.normal(1.1, 0.1, count), 2, 200).astype(np.int64)
    return source, target


def widths(batch: IntArray, sides: tuple[IntArray, IntArray]) -> tuple[int, int]:
    return int(sides[0][batch].max()), int(sides[1][batch].max())


def same(first: list[IntArray], second: list[IntArray]) -> bool:
    return [batch.tolist() for batch in first] == [batch.tolist() for batch in second]


@pytest.mark.parametrize("budget", [1, 64, BUDGET, 10**9])
@pytest.mark.parametrize("count", [1, 2, 1000])
def test_every_pair_is_in_one_batch_and_no_batch_is_over_the_budget(
    count: int, budget: int
) -> None:
    sides = lengths(count)
    for plan in (plan_epoch(*sides, budget, seed=1, epoch=0), plan_in_order(*sides, budget)):
        assert sorted(np.concatenate(plan).tolist()) == list(range(count))
        for batch in plan:
            assert len(batch) == 1 or max(widths(batch, sides)) * len(batch) <= budget


def test_a_batch_is_as_full_as_the_budget_allows() -> None:
    sides = lengths(5000)
    plan = plan_in_order(*sides, BUDGET)
    for batch, following in itertools.pairwise(plan):
        one_more = np.append(batch, following[0])
        assert max(widths(one_more, sides)) * len(one_more) > BUDGET


def padding(plan: list[IntArray], side: int, sides: tuple[IntArray, IntArray]) -> float:
    """Return the share of a side's places that hold no token."""
    places = sum(widths(batch, sides)[side] * len(batch) for batch in plan)
    return 1 - int(sides[side].sum()) / places


def test_pairs_of_a_batch_are_of_similar_length() -> None:
    sides = lengths(20_000)
    plan = plan_epoch(*sides, 4096, seed=1, epoch=0)
    by_chance = np.array_split(np.random.default_rng(0).permutation(20_000), len(plan))
    for side, most in ((0, 0.07), (1, 0.03)):
        assert padding(plan, side, sides) < most < 0.5 < padding(by_chance, side, sides)
    width, batches = np.maximum(*sides), len(plan)
    assert batches < 1.04 * width.sum() / 4096  # full ones


def test_the_plan_depends_on_its_arguments_and_on_nothing_else() -> None:
    sides = lengths(1000)
    plan = plan_epoch(*sides, BUDGET, seed=5, epoch=3)
    np.random.seed(0)  # the state that must not matter
    assert same(plan, plan_epoch(*sides, BUDGET, seed=5, epoch=3))
    for other in (
        plan_epoch(*sides, BUDGET, seed=6, epoch=3),
        plan_epoch(*sides, BUDGET, seed=5, epoch=4),
        plan_epoch(*sides, BUDGET + 1, seed=5, epoch=3),
        plan_epoch(*lengths(1000, seed=2), BUDGET, seed=5, epoch=3),
    ):
        assert not same(plan, other)


def test_another_process_makes_the_same_plan() -> None:
    program = (
        "from tests.unit.data.test_plan import *\n"
        "print([batch.tolist() for batch in plan_epoch(*lengths(300), BUDGET, 5, 3)])"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        check=True,
    )
    plan = plan_epoch(*lengths(300), BUDGET, 5, 3)
    assert told.stdout.decode().strip() == str([batch.tolist() for batch in plan])


def test_an_epoch_brings_other_neighbours_and_another_order() -> None:
    sides = lengths(5000)
    first, second = (plan_epoch(*sides, BUDGET, seed=1, epoch=epoch) for epoch in (0, 1))
    batches = [{frozenset(batch.tolist()) for batch in plan} for plan in (first, second)]
    unchanged = sum(map(len, batches[0] & batches[1]))  # the longest have none of their length
    assert unchanged < 5000 / 10
    mean_lengths = [[sides[1][batch].mean() for batch in plan] for plan in (first, second)]
    assert abs(np.corrcoef(mean_lengths[0], range(len(first)))[0, 1]) < 0.3  # not by length
    assert mean_lengths[0] != mean_lengths[1]


def test_validation_goes_from_the_longest_to_the_shortest() -> None:
    sides = lengths(1000)
    plan = plan_in_order(*sides, BUDGET)
    ordered = np.maximum(*sides)[np.concatenate(plan)]
    assert (np.diff(ordered) <= 0).all()
    assert same(plan, plan_in_order(*sides, BUDGET))


def test_seeds_of_different_parts_are_different_and_fit_a_signed_number() -> None:
    seeds = [derive_seed(*parts) for parts in (("a",), ("a", 1), ("a", 11), (1, "a"), ("a", 1, 1))]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert derive_seed("a", 1) == derive_seed("a", 1)

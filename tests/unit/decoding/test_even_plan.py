"""How sources are shared out to batches: evenly, whatever the number of threads."""

import numpy as np
import pytest

from mtrain.data.plan import plan_in_order
from mtrain.decoding.engine import EVEN, _even_plan


def sizes(lengths: np.ndarray, budget: int) -> list[int]:
    """Return the tokens of each batch, padding included, after a look at the plan itself."""
    plan = _even_plan(lengths, budget, EVEN)
    assert sorted(row for rows in plan for row in rows) == list(range(len(lengths)))
    for rows in plan:
        assert len(rows) == 1 or len(rows) * lengths[rows].max() <= budget
    return [len(rows) * int(lengths[rows].max()) for rows in plan]


@pytest.mark.parametrize("budget", [300, 1000, 4000, 11_000])
@pytest.mark.parametrize("seed", range(5))
def test_batches_are_as_many_as_threads_share_and_about_as_large(seed: int, budget: int) -> None:
    lengths = np.random.default_rng(seed).integers(3, 40, size=700)
    found = sizes(lengths, budget)
    assert len(found) % EVEN == 0
    assert len(found) < lengths.sum() / budget * 1.15 + EVEN
    assert sorted(found)[len(found) // 10] > 0.75 * max(found)


def test_where_batches_come_one_after_the_other_there_are_no_more_than_needed() -> None:
    lengths = np.random.default_rng(1).integers(3, 40, size=700)
    for budget in (4000, 5000, 11_000):
        assert len(_even_plan(lengths, budget, 1)) == len(plan_in_order(lengths, lengths, budget))


def test_what_fits_one_batch_is_one() -> None:
    assert len(sizes(np.array([5, 6, 7, 4]), 28)) == 1
    assert len(sizes(np.array([5]), 1)) == 1
    assert len(sizes(np.array([], dtype=np.int64), 100)) == 0


def test_a_source_longer_than_a_batch_has_one_of_its_own() -> None:
    lengths = np.array([900, 3, 3, 3, 3, 800, 3, 3])
    assert sorted(sizes(lengths, 20))[-2:] == [800, 900]

"""Equal pairs are found by their hashes, however many fit into memory."""

import numpy as np
import pytest

from mtrain.data import duplicates
from mtrain.data.duplicates import mark_duplicates
from mtrain.text.filters import CODES, KEPT


def mark_naively(hashes: list[int], verdicts: list[int]) -> list[int]:
    """Do what `mark_duplicates` does, with a set."""
    seen: set[int] = set()
    marked = list(verdicts)
    for position, (value, verdict) in enumerate(zip(hashes, verdicts, strict=True)):
        if verdict == KEPT:
            if value in seen:
                marked[position] = CODES["duplicate"]
            seen.add(value)
    return marked


@pytest.mark.parametrize("at_once", [30, 333, 1000, 10_000])
@pytest.mark.parametrize("num_values", [1, 50, 100_000])
def test_of_equal_pairs_the_first_that_is_kept_stays(
    num_values: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "HASHES_AT_ONCE", at_once)
    random = np.random.default_rng(num_values)
    values = random.integers(-(2**63), 2**63, num_values)
    hashes = values[random.integers(0, num_values, 1000)]
    verdicts = random.choice([KEPT, KEPT, CODES["empty"]], 1000).astype(np.uint8)
    expected = mark_naively(hashes.tolist(), verdicts.tolist())
    mark_duplicates(hashes, verdicts)
    assert verdicts.tolist() == expected


def test_neighbouring_and_extreme_hashes_are_told_apart() -> None:
    hashes = np.array([0, 1, -1, -(2**63), -2, 0, -(2**63), 1 - 2**63, 2**63 - 1])
    verdicts = np.zeros(len(hashes), np.uint8)
    mark_duplicates(hashes, verdicts)
    assert np.flatnonzero(verdicts).tolist() == [5, 6]

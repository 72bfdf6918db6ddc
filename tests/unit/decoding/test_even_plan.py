"""How sources are shared out to batches: evenly, whatever the number of threads."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from mtrain.config.decoding import BATCH_TOKENS, DecodingConfig
from mtrain.data.plan import plan_in_order
from mtrain.decoding.engine import EVEN, Engine, Found, _even_plan
from tests.unit.config.test_sections import explanation


def sizes(lengths: np.ndarray, budget: int, least: int = 1000) -> list[int]:
    """Return the tokens of each batch, padding included, after a look at the plan itself."""
    plan = _even_plan(lengths, budget, least)
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


@pytest.mark.parametrize("seed", range(5))
def test_what_would_fit_one_batch_is_shared_where_that_is_worth_it(seed: int) -> None:
    for num_sources in range(1, 60):
        lengths = np.random.default_rng(seed).integers(3, 40, size=num_sources)
        found = sizes(lengths, 12_000, 200)
        worth = int(lengths.sum()) // 200
        assert len(found) == (EVEN if worth >= EVEN else 2 if worth >= 2 else 1)
        assert min(found) > 0.5 * max(found)


class Planner(Engine):
    """An engine that only plans."""

    def search(self, sources: Sequence[list[int]]) -> Iterator[Found]:
        yield from ((row, []) for rows in self._batches(sources) for row in rows)

    def sizes(self, sources: Sequence[list[int]]) -> list[int]:
        return [len(rows) for rows in self._batches(sources)]


def test_a_gpu_has_no_more_batches_than_needed() -> None:
    lengths = np.random.default_rng(1).integers(3, 40, size=700)
    sources = [[5] * (length - 1) for length in lengths]
    for tokens in (4000, 5000, 11_000):
        decoding = DecodingConfig(batch_tokens=2 * tokens, beam_size=2)
        needed = [len(rows) for rows in plan_in_order(lengths, lengths, tokens)]
        assert Planner(decoding, 100, torch.device("cuda")).sizes(sources) == needed
        assert len(Planner(decoding, 100, torch.device("cpu")).sizes(sources)) % EVEN == 0


def test_the_more_hypotheses_the_shorter_a_text_is_shared() -> None:
    sources = [[5] * 14] * 30  # 450 tokens, end marks included

    def num_batches(**options: Any) -> int:
        planner = Planner(DecodingConfig(**options), 100, torch.device("cpu"))
        return len(planner.sizes(sources))

    assert num_batches(beam_size=1) == 1
    assert num_batches(beam_size=4) == 2
    assert num_batches(beam_size=5, n_best=2) == 2
    assert num_batches(beam_size=8) == EVEN
    assert num_batches(method="sample", n_best=8) == EVEN
    assert num_batches(beam_size=1000, n_best=1000) == 30


def test_what_fits_one_batch_is_one() -> None:
    assert len(sizes(np.array([5, 6, 7, 4]), 28)) == 1
    assert len(sizes(np.array([5]), 1)) == 1
    assert len(sizes(np.array([], dtype=np.int64), 100)) == 0


def test_a_source_longer_than_a_batch_has_one_of_its_own() -> None:
    lengths = np.array([900, 3, 3, 3, 3, 800, 3, 3])
    assert sorted(sizes(lengths, 20))[-2:] == [800, 900]


def test_a_gpu_takes_more_at_once_unless_told_how_much() -> None:
    def largest(device: str, **options: Any) -> int:
        decoding = DecodingConfig(beam_size=4, **options)
        return max(Planner(decoding, 100, torch.device(device)).sizes([[5] * 9] * 3000))

    assert largest("cuda") == BATCH_TOKENS["cuda"] // 4 // 10
    assert BATCH_TOKENS["cpu"] // 4 // 10 >= largest("cpu") > 200
    assert largest("cuda", batch_tokens=100) == largest("cpu", batch_tokens=100) == 2
    assert largest("cpu", batch_tokens=3) == 1


def test_the_defaults_are_those_that_are_told() -> None:
    told = explanation(DecodingConfig, "batch_tokens")
    assert all(f"{tokens:,}" in told for tokens in BATCH_TOKENS.values())

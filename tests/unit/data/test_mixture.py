"""The mix of corpora: shares, passes, and what makes it a pure function."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from mtrain.config.data import DataConfig
from mtrain.data.mixture import Mixture, describe_mixture, mixtures, stage_seed
from mtrain.errors import UserError

SIZES = (1000, 300, 20)


def config(weights: Sequence[float | None] = (None, None, None), **keys: object) -> DataConfig:
    """Return a section with three corpora; the last two have the same name."""
    train = [{"path": f"{name}{weight}.tsv", "name": name, "weight": weight}
             for name, weight in zip(("web", "clean", "clean"), weights, strict=True)]  # fmt: skip
    content = {"source_lang": "en", "target_lang": "de", "train": train, "valid": [], **keys}
    return DataConfig.model_validate(content, context={"is_of_run": True})


def counts(rows: np.ndarray) -> list[int]:
    """Return how many rows are of each corpus."""
    edges = np.cumsum([0, *SIZES])
    return np.histogram(rows, edges)[0].tolist()


def test_without_a_mix_an_epoch_has_each_pair_once() -> None:
    (mixture,) = mixtures(config(), SIZES)
    assert mixture.rows(1, 0).tolist() == mixture.rows(2, 7).tolist() == list(range(sum(SIZES)))
    assert describe_mixture(mixture, config()) == ""


@pytest.mark.parametrize("weights", [(1, 1, 2), (0.7, 0.3, 0), (1000, 300, 20)])
def test_an_epoch_has_the_shares_of_the_weights(weights: tuple[float, ...]) -> None:
    (mixture,) = mixtures(config(weights=weights), SIZES)
    in_mix = sum(size for size, weight in zip(SIZES, weights, strict=True) if weight)
    for epoch in range(4):
        found = counts(mixture.rows(5, epoch))
        for count, weight in zip(found, weights, strict=True):
            assert abs(count - in_mix * weight / sum(weights)) < 1.001


def test_no_pair_of_a_corpus_comes_again_before_all_others_came() -> None:
    (mixture,) = mixtures(config(weights=(1, 5, 3)), SIZES)
    seen = np.concatenate([mixture.rows(3, epoch) for epoch in range(5)])
    starts = np.cumsum([0, *SIZES])
    for start, size in zip(starts, SIZES, strict=False):
        times = np.bincount(seen[(seen >= start) & (seen < start + size)] - start, minlength=size)
        assert times.max() - times.min() <= 1


def test_the_rows_depend_on_seed_and_epoch_alone() -> None:
    (mixture,) = mixtures(config(weights=(1, 2, 3)), SIZES)
    first = mixture.rows(1, 3)
    assert (first == mixtures(config(weights=(1, 2, 3)), SIZES)[0].rows(1, 3)).all()
    for other in (mixture.rows(1, 4), mixture.rows(2, 3)):
        assert sorted(first.tolist()) != sorted(other.tolist())
    assert stage_seed(7, 0) == 7
    assert len({stage_seed(seed, stage) for seed in (7, 8) for stage in range(5)}) == 10


@pytest.mark.parametrize("temperature", [1.5, 5, 100])
def test_a_temperature_evens_the_shares_out(temperature: float) -> None:
    (mixture,) = mixtures(config(sampling_temperature=temperature), SIZES)
    assert mixture.shares is not None
    scaled = np.array(SIZES) ** (1 / temperature)
    np.testing.assert_allclose(mixture.shares, scaled / scaled.sum())


def test_a_stage_mixes_by_name_and_corpora_of_one_name_by_size() -> None:
    stages = [{"mix": {"web": 1}, "until": 10}, {"mix": {"web": 1, "clean": 3}}]
    first, second = mixtures(config(stages=stages), SIZES)
    assert counts(first.rows(1, 0)) == [1000, 0, 0]
    assert second.shares == pytest.approx([0.25, 0.75 * 300 / 320, 0.75 * 20 / 320])
    assert describe_mixture(second, config()) == "clean 75.0%, web 25.0%"


@pytest.mark.parametrize("keys", [
    {"weights": (1, 1, 1)},
    {"stages": [{"mix": {"web": 1}, "plateau": 2}, {"mix": {"clean": 1}}]},
])  # fmt: skip
def test_a_corpus_that_the_filters_emptied_is_named(keys: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"data\.train\.1 \(clean\): the mix names this corpus"):
        mixtures(config(**keys), (1000, 0, 0))
    unused = {"weights": (1, 0, 0)} if "weights" in keys else {"stages": [{"mix": {"web": 1}}]}
    mixtures(config(**unused), (1000, 0, 0))


def test_a_thousand_corpora_are_mixed_as_fast_as_one() -> None:
    """They cost no pass over the pairs each, which would take a thousand times as long."""
    sizes = [1000] * 1000
    mixture = Mixture(sizes, [number + 1 for number in range(1000)])
    total = sum(mixture.shares or ())
    mixture = Mixture(sizes, [share / total for share in mixture.shares or ()])
    started = time.process_time()
    rows = mixture.rows(1, 0)
    assert time.process_time() - started < 10
    assert abs(len(rows) - 1_000_000) < 1000

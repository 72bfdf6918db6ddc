"""The mix of training corpora: which pairs an epoch of a stage has.

A pure function of (sizes, shares, seed, epoch). Independent of batches, which plan.py cuts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mtrain.config.corpora import TrainCorpus
from mtrain.config.data import DataConfig
from mtrain.data.plan import derive_seed
from mtrain.data.store import IntArray
from mtrain.errors import UserError


@dataclass(frozen=True)
class Mixture:
    """The corpora of a stage, and the share of its pairs that each supplies."""

    sizes: Sequence[int]  # pairs of each corpus, in the order of the token store
    shares: Sequence[float] | None = None  # they sum to 1; None: each pair once an epoch

    def rows(self, seed: int, epoch: int) -> IntArray:
        """Return the rows of the token store that an epoch trains on, in no particular order.

        An epoch has as many pairs as the corpora of the mix together. A corpus supplies its pairs
        in shuffled passes that run on from epoch to epoch, so that none comes a second time before
        all others came once.
        """
        if self.shares is None:
            return np.arange(sum(self.sizes))
        pairs_in_mix = sum(
            size for size, share in zip(self.sizes, self.shares, strict=True) if share
        )
        offset, drawn = 0, []
        for corpus, (size, share) in enumerate(zip(self.sizes, self.shares, strict=True)):
            start, end = (
                math.floor(number * pairs_in_mix * share) for number in (epoch, epoch + 1)
            )
            drawn += [offset + rows for rows in _passes(seed, corpus, size, start, end)]
            offset += size
        return np.concatenate(drawn)


def _passes(seed: int, corpus: int, size: int, start: int, end: int) -> list[IntArray]:
    """Return the draws from `start` to `end` of a corpus's endless sequence of shuffled passes."""
    pieces = []
    for number in range(start // size, -(-end // size)) if end > start else ():
        first, last = max(0, start - number * size), min(size, end - number * size)
        rows: IntArray = np.arange(size)
        if last - first < size:  # the order of a whole pass does not matter
            rows = np.random.default_rng(derive_seed(seed, "corpus", corpus, number)).permutation(
                size
            )
        pieces.append(rows[first:last])
    return pieces


def mixtures(data: DataConfig, sizes: Sequence[int]) -> list[Mixture]:
    """Return the mixture of each stage; `sizes` are the pairs of each corpus after the filters.

    Raises UserError if a corpus that a mix names has no pair.
    """
    if data.stages:
        return [_mixture(_shares_of_names(stage.mix, data.train, sizes), data, sizes)
                for stage in data.stages]  # fmt: skip
    weights = [corpus.weight for corpus in data.train if corpus.weight is not None]
    if weights:
        return [_mixture(weights, data, sizes)]
    if data.sampling_temperature != 1:
        return [_mixture([size ** (1 / data.sampling_temperature) for size in sizes], data, sizes)]
    return [Mixture(sizes)]


def _shares_of_names(
    mix: dict[str, float], corpora: Sequence[TrainCorpus], sizes: Sequence[int]
) -> list[float]:
    """Return a weight for each corpus; those of one name share its weight by size."""
    of_name: dict[str | None, int] = {}
    for corpus, size in zip(corpora, sizes, strict=True):
        of_name[corpus.name] = of_name.get(corpus.name, 0) + size
    weights = []
    for corpus, size in zip(corpora, sizes, strict=True):
        share = size / of_name[corpus.name] if of_name[corpus.name] else 1.0
        weights.append(mix.get(corpus.name or "", 0.0) * share)
    return weights


def _mixture(weights: Sequence[float], data: DataConfig, sizes: Sequence[int]) -> Mixture:
    for number, (weight, size) in enumerate(zip(weights, sizes, strict=True)):
        if weight and not size:
            name = data.train[number].name
            raise UserError(
                f"data.train.{number}{f' ({name})' if name else ''}: the mix names this corpus, "
                "and the filters left none of its pairs",
                "leave it out of the mix, or look at the corpus and at data.filters",
            )
    total = sum(weights)
    return Mixture(sizes, [weight / total for weight in weights])


def stage_seed(seed: int, stage: int) -> int:
    """Return the seed of a stage's order; the first stage has the seed itself."""
    return derive_seed(seed, "stage", stage) if stage else seed


def describe_mixture(mixture: Mixture, data: DataConfig) -> str:
    """Return the shares by corpus, largest first, or an empty string if each pair comes once."""
    if mixture.shares is None:
        return ""
    totals: dict[str, float] = {}
    for number, (corpus, share) in enumerate(zip(data.train, mixture.shares, strict=True)):
        name = corpus.name or f"data.train.{number}"
        totals[name] = totals.get(name, 0.0) + share
    most = sorted(totals.items(), key=lambda item: -item[1])
    told = ", ".join(f"{name} {share:.1%}" for name, share in most[:10] if share)
    return told + (f" and {len(most) - 10} others" if len(most) > 10 else "")

"""Held-out sets that are taken out of the training corpora, by a hash of the normalised source.

The last bit of a source's hash says which set it may go to, valid or test; the rest ranks it, and
a set takes the sources of lowest rank. So the choice does not depend on the order of corpora and
lines, most of it stays when the corpora grow, and no source moves from one set to the other.
Memory grows with the number of sources asked for, not with the corpora.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mtrain.config.corpora import FromTrain, Languages, MonolingualText
from mtrain.config.data import FilterConfig
from mtrain.config.run import Config
from mtrain.console import Progress, progress, warn
from mtrain.data.held_out import HeldOut, Part
from mtrain.errors import UserError
from mtrain.text.characters import Texts
from mtrain.text.corpora import read_pairs
from mtrain.text.dirt import CHECKS, Block
from mtrain.text.filters import KEPT, judge_texts
from mtrain.text.identification import require_identifier
from mtrain.text.lines import blocks, clean_bytes, read_lines
from mtrain.text.normal import normal_hashes
from mtrain.text.records import RawPair

BLOCK_PAIRS = 10_000
NAME = "from train"  # in place of a corpus's
SETS = ("valid", "test")  # a set's place here is the last bit of the hashes it may take
HIGHEST = np.iinfo(np.uint64).max

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class TakenPairs:
    """The held-out sets that were taken out of train, and what therefore leaves it."""

    valid: list[Part] = field(default_factory=list)
    tests: dict[str, list[Part]] = field(default_factory=dict)
    sources: Hashes = field(default_factory=lambda: np.zeros(0, np.uint64))

    def has_sources(self, sources: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return for each cleaned source whether its pairs leave train."""
        if not len(self.sources):
            return np.zeros(len(sources), bool)
        return np.isin(_hashes(sources), self.sources)


@dataclass
class _Choice:
    """The sources of lowest hash for one set, each with its first pair in each direction."""

    size: int
    bound: int = int(HIGHEST)  # the highest hash that can still be among them
    pairs: dict[int, dict[Languages, RawPair]] = field(default_factory=dict)

    def offer(self, hashes: Hashes, pairs: Sequence[RawPair], languages: Languages) -> None:
        """Keep the pairs whose sources may be among the lowest."""
        for hashed, pair in zip(hashes.tolist(), pairs, strict=True):
            if hashed <= self.bound:
                self.pairs.setdefault(hashed, {}).setdefault(languages, pair)
        if len(self.pairs) > 2 * self.size:
            self.prune()

    def prune(self) -> None:
        """Keep the lowest alone."""
        lowest = sorted(self.pairs)[: self.size]
        self.bound = lowest[-1]
        self.pairs = {code: self.pairs[code] for code in lowest}


@dataclass
class _Count:
    """Counts different hashes, up to a limit: it keeps as many of the lowest."""

    limit: int
    lowest: Hashes = field(default_factory=lambda: np.zeros(0, np.uint64))

    def add(self, hashes: Hashes) -> None:
        """Count the hashes that are new."""
        if len(self.lowest) == self.limit:
            hashes = hashes[hashes < self.lowest[-1]]
        if len(hashes):
            self.lowest = np.unique(np.concatenate([self.lowest, hashes]))[: self.limit]


def take_from_train(config: Config, held_out: HeldOut) -> TakenPairs:
    """Choose the sets that `from_train` asks for, and write them as `held_out` writes others.

    The sets that are given as text must have been written before. Raises `UserError` if the
    corpora have too few different sources.
    """
    data = config.data
    sizes = {name: corpora.from_train for name, corpora in zip(SETS, (data.valid, data.test),
             strict=True) if isinstance(corpora, FromTrain)}  # fmt: skip
    if not sizes:
        return TakenPairs()
    choices = {name: _Choice(size) for name, size in sizes.items()}
    count = _Count(2 * sum(sizes.values()))  # as many must there be: half of them stay
    given = _given_sources(held_out)
    with progress("choosing held-out pairs", unit="pairs") as shown:
        _read(config, choices, count, given, shown)
    _refuse_too_few(choices, len(count.lowest), count.limit)
    for choice in choices.values():
        choice.prune()
    return TakenPairs(
        _write_valid(choices["valid"], config, held_out) if "valid" in choices else [],
        _write_tests(choices["test"], config, held_out) if "test" in choices else {},
        np.array(sorted(code for choice in choices.values() for code in choice.pairs), np.uint64),
    )


def _read(
    config: Config, choices: dict[str, _Choice], count: _Count, given: Hashes, shown: Progress
) -> None:
    """Offer every pair that passes the text filters; monolingual text supplies none."""
    data = config.data
    if "language" in data.filters.checks:
        require_identifier("data.filters.checks: language")
    for corpus in data.train:
        if isinstance(corpus, MonolingualText) and not config.learns_from_text:
            continue
        is_text = config.is_text(corpus)
        languages = data.languages_of(corpus)
        for block in blocks(read_pairs(config.original_pairs(corpus), languages), BLOCK_PAIRS):
            raw = [source for source, _ in block], [target for _, target in block]
            sources, targets, codes = judge_texts(*raw, data.filters, is_text)
            hashes = _hashes(sources)
            is_free = (codes == KEPT) & ~np.isin(hashes, given)
            count.add(hashes[is_free])
            for name, choice in choices.items():
                is_here = is_free & (hashes & np.uint64(1) == SETS.index(name))
                rows = np.flatnonzero(is_here & (hashes <= choice.bound))
                rows = _clean(rows, sources, targets, languages, data.filters)
                choice.offer(hashes[rows], [block[row] for row in rows.tolist()], languages)
            shown.advance(len(block))


def _clean(
    rows: npt.NDArray[np.int64],
    sources: Sequence[str],
    targets: Sequence[str],
    languages: Languages,
    filters: FilterConfig,
) -> npt.NDArray[np.int64]:
    """Return the rows of the pairs that pass `data.filters.checks`; repetitions pass."""
    chosen = [check for check in CHECKS if check in filters.checks]
    if not chosen or not len(rows):
        return rows
    source, target = (Texts([side[row] for row in rows.tolist()]) for side in (sources, targets))
    block = Block(source, target, languages, np.ones(len(rows), bool))
    for check in chosen:
        block.is_open[CHECKS[check](block)] = False
    return rows[block.is_open]


def _given_sources(held_out: HeldOut) -> Hashes:
    """Return the hashes of the sources in sets that are given as text: they cannot be chosen."""
    lines = (line for path in sorted(held_out.folder.glob("*.source")) for line in read_lines(path))
    parts = [_hashes(list(map(clean_bytes, block))) for block in blocks(lines, BLOCK_PAIRS)]
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *parts]))


def _hashes(sources: Sequence[str]) -> Hashes:
    return normal_hashes(Texts(sources))


def _refuse_too_few(choices: dict[str, _Choice], num_sources: int, num_needed: int) -> None:
    """Raise UserError, with sizes that can be taken, if a set or train has too few sources."""
    sizes = {f"data.{name}": choice.size for name, choice in choices.items()}
    # Exact if it is below the size: `prune` leaves as many.
    eligible = {f"data.{name}": len(choice.pairs) for name, choice in choices.items()}
    complaints = []
    if num_sources < num_needed:
        asked = " and ".join(f"{name}.from_train: {size:,}" for name, size in sizes.items())
        complaints.append(
            f"{asked}: data.train has {num_sources:,} different sources to choose from, and at "
            "least half of them must stay for training"
        )
    complaints += [
        f"{name}.from_train: {size:,} different sources; a hash decides which of data.train may "
        f"go there, and these are {eligible[name]:,}"
        for name, size in sizes.items() if eligible[name] < size
    ]  # fmt: skip
    if complaints:
        together = min(num_sources, num_needed) // 2
        most = {name: min(size, eligible[name], together) for name, size in sizes.items()}
        hint = _sizes_to_ask_for(sizes, most, together)
        raise UserError("\n".join(complaints), f"{hint}, or name text files in its place")


def _sizes_to_ask_for(sizes: dict[str, int], most: dict[str, int], together: int) -> str:
    if min(most.values()) == 0 or together < len(sizes):
        return "look at the corpora in data.train, and at data.filters"
    if sum(most.values()) > together:
        each = " and ".join(f"{size:,} in {name}" for name, size in most.items())
        return f"ask for {together:,} or less together, at most {each}"
    return " and ".join(f"set {name}.from_train to {most[name]:,} or less"
                        for name, size in sizes.items() if most[name] < size)  # fmt: skip


def _write_valid(choice: _Choice, config: Config, held_out: HeldOut) -> list[Part]:
    texts = {languages: _pairs_in(choice, languages) for languages in config.data.directions}
    for languages, pairs in texts.items():
        if not pairs:
            warn(f"data.valid.from_train: no pair among them is {'-'.join(languages)}")
    return held_out.write_texts(
        "valid",
        [(_part(config, languages), pairs) for languages, pairs in texts.items() if pairs],
    )


def _write_tests(choice: _Choice, config: Config, held_out: HeldOut) -> dict[str, list[Part]]:
    texts = {name: (_part(config, languages), _pairs_in(choice, languages))
             for name, languages in config.data.test_languages.items()}  # fmt: skip
    for part, pairs in texts.values():
        if not pairs:
            raise UserError(
                f"data.test.from_train: no pair among the {choice.size:,} is "
                f"{'-'.join(part.languages)}",
                "ask for more, or name text files in its place",
            )
    return {name: held_out.write_texts(name, [text]) for name, text in texts.items()}


def _part(config: Config, languages: Languages) -> Part:
    """Return a part without its lines; losses are told by its name, so each direction has its own.

    In a model that learns from text, one language on both sides means text.
    """
    is_text = config.learns_from_text and languages[0] == languages[1]
    named = "-".join(dict.fromkeys(languages))
    name = NAME if len(config.data.directions) == 1 else f"{NAME} {named}"
    return Part(name, languages, 0, is_text)


def _pairs_in(choice: _Choice, languages: Languages) -> list[RawPair]:
    """Return the pairs of a direction, by the hash of their sources: in a random order."""
    return [pairs[languages] for pairs in choice.pairs.values() if languages in pairs]

"""Looks at a corpus for `init`: its size, lengths, languages, duplicates and dirt.

Reads the corpus once. Counts pairs exactly; the rest comes from an evenly spaced sample, and the
number of different texts from those of low hash. Memory does not grow with the corpus.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from xxhash import xxh3_64_intdigest

from mtrain.config.corpora import Languages
from mtrain.config.data import FilterConfig
from mtrain.console import progress
from mtrain.errors import UserError
from mtrain.text.characters import Texts
from mtrain.text.dirt import CHECKS, Block, near_hashes
from mtrain.text.encoding import ENCODING_HINT
from mtrain.text.filters import CODES, KEPT, judge_texts
from mtrain.text.identification import identify, is_installed
from mtrain.text.languages import find_language
from mtrain.text.lines import blocks
from mtrain.text.naming import OPTIONS, Codes
from mtrain.text.records import RawPair

SAMPLE_PAIRS = 20_000
LANGUAGE_PAIRS = 1000  # `language` and the identification take longest
COUNTED_HASHES = 200_000
BLOCK_PAIRS = 10_000
SURE = 0.8  # share of a side that has to be in one language
TOKENS_PER_WORD, TOKENS_PER_CHARACTER = 1.3, 0.7  # the latter without spaces between words
NEAR = "near_duplicates"
FAULTS = (
    ("invalid_utf8", "not UTF-8", ENCODING_HINT),
    ("empty", "empty on a side", "line n of one side must be the translation of line n"),
    ("identical", "the same on both sides", "give the text and its translation"),
)


@dataclass
class _Distinct:
    """Estimates the number of different texts from those of low hash; exact for a small corpus."""

    bound: int = 1 << 64  # the hashes below it are kept
    seen: dict[int, int] = field(default_factory=dict)  # how often each occurs

    def add(self, hashed: int) -> None:
        """Count a text."""
        if hashed < self.bound:
            self.seen[hashed] = self.seen.get(hashed, 0) + 1
            if len(self.seen) > COUNTED_HASHES:
                self.bound //= 2
                self.seen = {code: n for code, n in self.seen.items() if code < self.bound}

    def share(self) -> float:
        """Return the share of texts that are no copy of an earlier one."""
        return len(self.seen) / max(1, sum(self.seen.values()))


@dataclass(frozen=True)
class Sample:
    """Every n-th pair of a corpus, cleaned."""

    sources: list[str]
    targets: list[str]
    codes: list[int]  # `KEPT`, or the fault of each pair

    def count(self, fault: str) -> int:
        """Return how many pairs have a fault: empty, invalid_utf8, identical."""
        return self.codes.count(CODES[fault])

    def kept(self) -> "Sample":
        """Return the pairs without a fault."""
        rows = [row for row, code in enumerate(self.codes) if code == KEPT]
        source, target = ([side[row] for row in rows] for side in (self.sources, self.targets))
        return Sample(source, target, [KEPT] * len(rows))


@dataclass(frozen=True)
class Survey:
    """What a reading of the corpus has found."""

    num_pairs: int
    num_sources: int  # different ones, estimated in a large corpus
    num_duplicates: int  # pairs that repeat an earlier one; estimated in a large corpus
    sample: Sample


def survey(pairs: Iterable[RawPair]) -> Survey:
    """Read a corpus. Raises UserError as its reader does, and if hardly a pair is of use."""
    num_pairs, step = 0, 1
    kept: list[RawPair] = []
    distinct_pairs, distinct_sources = _Distinct(), _Distinct()
    with progress("reading", unit="pairs") as shown:
        for block in blocks(pairs, BLOCK_PAIRS):
            for source, target in block:
                distinct_sources.add(xxh3_64_intdigest(source))
                distinct_pairs.add(xxh3_64_intdigest(b"\0".join((source, target))))
            kept += block[-num_pairs % step :: step]
            num_pairs += len(block)
            while len(kept) > 2 * SAMPLE_PAIRS:
                kept, step = kept[::2], 2 * step
            shown.advance(len(block))
    raw = [source for source, _ in kept], [target for _, target in kept]
    sources, targets, codes = judge_texts(*raw, FilterConfig())
    sample = Sample(sources, targets, codes.tolist())
    _refuse_useless(num_pairs, sample)
    return Survey(
        num_pairs,
        round(num_pairs * distinct_sources.share()),
        round(num_pairs * (1 - distinct_pairs.share())),
        sample,
    )


def _refuse_useless(num_pairs: int, sample: Sample) -> None:
    if not num_pairs:
        raise UserError("there is not one pair in the corpus")
    seen = len(sample.codes)
    for fault, told, hint in FAULTS:
        if sample.count(fault) > seen / 2:
            raise UserError(f"{sample.count(fault):,} of {seen:,} pairs are {told}", hint)
    if not sample.kept().codes:
        found = [(sample.count(fault), told, hint) for fault, told, hint in FAULTS
                 if sample.count(fault)]  # fmt: skip
        counts = ", ".join(f"{count:,} are {told}" for count, told, _ in found)
        raise UserError(
            f"none of {seen:,} pairs can be used: {counts}", "; ".join(hint for *_, hint in found)
        )


@dataclass(frozen=True)
class SideLanguage:
    """The language of a side, and what its texts look like."""

    code: str
    seen: str  # empty if that is not sure, or not known without the extra
    share: float  # of the texts

    @property
    def is_confirmed(self) -> bool:
        """Whether the texts look like the language."""
        return bool(self.seen) and not self.is_doubtful

    @property
    def is_doubtful(self) -> bool:
        """Whether the texts look like another language."""
        return bool(self.seen) and find_language(self.code).base != find_language(self.seen).base


def languages_of(sample: Sample, named: Codes) -> list[SideLanguage]:
    """Return the languages of both sides: their names count first, then what the texts look like.

    Raises UserError if neither tells.
    """
    found = []
    for side, code, texts in zip(
        ("source", "target"), named, (sample.sources, sample.targets), strict=True
    ):
        seen, share = "", 0.0
        if is_installed():
            seen, share = identify(texts[:: -(-len(texts) // LANGUAGE_PAIRS)], "init")
        is_sure = bool(seen) and share >= SURE
        if code is None and not is_sure:
            raise UserError(
                f"the language of the {side} cannot be told"
                + (f": {share:.0%} of it looks like {seen}" if seen else " from its name"),
                f"say which it is: {OPTIONS}"
                + ("" if is_installed() else "; with pip install 'mtrain[langid]' the text tells"),
            )
        found.append(SideLanguage(code or seen, seen if is_sure else "", share))
    return found


def tokens_of(sample: Sample, languages: Languages) -> tuple[float, float]:
    """Return the estimated tokens of a line of each side."""
    source, target = (
        _words(texts) * TOKENS_PER_WORD if find_language(code).is_spaced
        else _characters(texts) * TOKENS_PER_CHARACTER
        for texts, code in zip((sample.sources, sample.targets), languages, strict=True)
    )  # fmt: skip
    return source, target


def describe_lengths(sample: Sample) -> tuple[str, str]:
    """Return for each side its mean words and characters a line."""
    source, target = (f"{_words(texts):.1f} words and {_characters(texts):.0f} characters"
                      for texts in (sample.sources, sample.targets))  # fmt: skip
    return source, target


def _words(texts: list[str]) -> float:
    return sum(len(text.split()) for text in texts) / max(1, len(texts))


def _characters(texts: list[str]) -> float:
    return sum(map(len, texts)) / max(1, len(texts))


def find_dirt(sample: Sample, languages: Languages) -> Iterator[tuple[str, int, int]]:
    """Yield for each check of `data.filters.checks` how many pairs fail it, and of how many."""
    for check, fails in CHECKS.items():
        if check == "language" and not is_installed():
            continue
        step = -(-len(sample.codes) // LANGUAGE_PAIRS) if check == "language" else 1
        block = _block(sample, languages, max(1, step))
        yield check, int(fails(block).sum()), len(block.is_open)
    block = _block(sample, languages, 1)
    different = {*zip(sample.sources, sample.targets, strict=True)}
    yield NEAR, len(different) - len(np.unique(near_hashes(block))), len(block.is_open)


def _block(sample: Sample, languages: Languages, step: int) -> Block:
    sources, targets = sample.sources[::step], sample.targets[::step]
    return Block(Texts(sources), Texts(targets), languages, np.ones(len(sources), bool))

"""Held-out sets: copies their raw text, checks it, and finds training pairs that repeat it.

These are valid, watch and test. Drops no pair of them. Works on text, not on tokens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mtrain.config.corpora import Corpus, Languages, PairFiles
from mtrain.config.data import FilterConfig
from mtrain.config.run import Config
from mtrain.console import warn
from mtrain.errors import UserError
from mtrain.text.checks import looks_like_header
from mtrain.text.corpora import corpus_name, read_document_numbers, read_pairs
from mtrain.text.encoding import ENCODING_HINT
from mtrain.text.filters import Ledger, judge_texts, pair_hashes, tell_pair, text_hashes
from mtrain.text.lines import blocks
from mtrain.text.records import RawPair

BLOCK_PAIRS = 10_000


@dataclass(frozen=True)
class Part:
    """Consecutive lines of a held-out set, of one corpus and one pair of languages."""

    corpus: str
    languages: Languages
    lines: int
    is_text: bool = False  # the same on both sides: one of them is enough


@dataclass
class HeldOut:
    """Writes the held-out sets into a folder and keeps hashes of their pairs and sources."""

    folder: Path
    config: Config
    ledgers: dict[str, list[Ledger]] = field(default_factory=dict)  # set: one per corpus
    _pairs: set[int] = field(default_factory=set)
    _texts: tuple[set[int], set[int]] = field(default_factory=lambda: (set(), set()))

    def write(self, name: str, corpora: Sequence[Corpus]) -> list[Part]:
        """Write NAME.source and NAME.target, one sentence per line; return a part per corpus.

        Raises UserError if there is no pair, or if most pairs of a corpus are not UTF-8.
        """
        texts = []
        for corpus in corpora:
            languages = self.config.data.languages_of(corpus)
            about = Part(corpus_name(corpus), languages, 0, self.config.is_text(corpus))
            texts.append((about, read_pairs(corpus, languages)))
        return self.write_texts(name, texts)

    def write_documents(self, name: str, corpus: Corpus) -> None:
        """Write NAME.documents, the number of each line's document, if the corpus has documents."""
        if isinstance(corpus, PairFiles) and corpus.documents is not None:
            numbers = read_document_numbers(corpus)
            path = self.folder / f"{name}.documents"
            path.write_text("".join(f"{number}\n" for number in numbers))

    def write_texts(self, name: str, texts: Sequence[tuple[Part, Iterable[RawPair]]]) -> list[Part]:
        """Do what `write` does, for parts whose lines are not counted yet, with their pairs."""
        parts = []
        paths = [self.folder / f"{name}.{side}" for side in ("source", "target")]
        with paths[0].open("wb") as sources, paths[1].open("wb") as targets:
            for part, pairs in texts:
                ledger = Ledger(part.corpus)
                self.ledgers.setdefault(name, []).append(ledger)
                for block in blocks(pairs, BLOCK_PAIRS):
                    raw = [pair[0] for pair in block], [pair[1] for pair in block]
                    for file, lines in zip((sources, targets), raw, strict=True):
                        file.writelines(line.replace(b"\n", b" ") + b"\n" for line in lines)
                    first, second, codes = judge_texts(*raw, FilterConfig(), part.is_text)
                    look_at(ledger, first, second, part, is_first=ledger.seen == 0)
                    ledger.note(codes, first, second)
                    marks = self.config.data.marks_of(part.languages)
                    hashes = pair_hashes(first, second, marks)
                    self._pairs.update(hashes.tolist())
                    for side, known in zip((first, second), self._texts, strict=True):
                        known.update(text_hashes(side).tolist())
                if ledger.counts["invalid_utf8"] * 2 > ledger.seen:
                    raise UserError(_undecoded(name, ledger), ENCODING_HINT)
                warn_of_undecoded(name, ledger)
                if not ledger.seen:
                    raise UserError(f"{name}: there is not one pair in {ledger.corpus}")
                parts.append(replace(part, lines=ledger.seen))
        return parts

    def has_sources(self, sources: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return for each source whether a held-out set contains it."""
        return self.has_texts(sources, 0)

    def has_texts(self, texts: Sequence[str], side: int) -> npt.NDArray[np.bool_]:
        """Return for each text whether a held-out set has it on a side, 0 (source) or 1."""
        known = self._texts[side]
        return np.array([code in known for code in text_hashes(texts).tolist()], bool)

    def has_pairs(self, hashes: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return for each pair, given by its hash, whether a held-out set contains it."""
        return np.array([code in self._pairs for code in hashes.tolist()], bool)


def look_at(
    ledger: Ledger, sources: Sequence[str], targets: Sequence[str], part: Part, is_first: bool
) -> None:
    """Count pairs and equal sides in the ledger; note a first pair that looks like a header.

    `is_first` says that these are the first pairs of the corpus.
    """
    if is_first and looks_like_header(sources[0], targets[0], part.languages):
        ledger.header = sources[0], targets[0]
        warn(
            f"{ledger.corpus}: the first pair looks like a header, and is read as text: "
            f"{tell_pair(sources[0], targets[0])}"
        )
    ledger.seen += len(sources)
    if not part.is_text:
        ledger.same_text += sum(s == t != "" for s, t in zip(sources, targets, strict=True))


def warn_of_undecoded(name: str, ledger: Ledger) -> None:
    """Warn of a corpus's pairs that are not UTF-8, with one example."""
    if told := _undecoded(name, ledger):
        warn(f"{told}; {ENCODING_HINT}")


def _undecoded(name: str, ledger: Ledger) -> str:
    if not ledger.counts["invalid_utf8"]:
        return ""
    source, target = ledger.samples["invalid_utf8"][0]
    where = name if name == ledger.corpus else f"{name}: {ledger.corpus}"
    return (
        f"{where}: {ledger.counts['invalid_utf8']:,} of {ledger.seen:,} pairs are not UTF-8, "
        f"for example {tell_pair(source, target)}"
    )

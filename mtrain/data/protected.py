"""Counts of what `data.protect` protects in the training pairs, for the data report."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mtrain.config.protection import SpanKind, SpanPattern, name_of
from mtrain.text.protection import LITERAL, MaskedPair


class ProtectionTally:
    """Counts the spans of sources by kind: those that got a piece, and those that stayed text."""

    def __init__(self, spans: Iterable[SpanKind | SpanPattern]) -> None:
        self._kinds = list(map(name_of, spans))
        self._replaced: Counter[str] = Counter()
        self._pairs: Counter[str] = Counter()  # with at least one that got a piece
        self._kept_as_text: Counter[str] = Counter()

    def note(self, pairs: Sequence[MaskedPair]) -> None:
        """Count the spans of some pairs."""
        for pair in pairs:
            self._replaced.update(pair.replaced)
            self._pairs.update(pair.replaced.keys())
            self._kept_as_text.update(pair.kept_as_text)

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the counts by kind of count, then by kind of span, for `add`."""
        return {"replaced": dict(self._replaced), "pairs": dict(self._pairs),
                "kept_as_text": dict(self._kept_as_text)}  # fmt: skip

    def add(self, counts: Mapping[str, Mapping[str, int]]) -> None:
        """Add the counts of other pairs."""
        self._replaced.update(counts["replaced"])
        self._pairs.update(counts["pairs"])
        self._kept_as_text.update(counts["kept_as_text"])

    def describe(self) -> dict[str, dict[str, int]]:
        """Return the counts of each kind, in the order of the configuration."""
        kinds = [*self._kinds, *([LITERAL] if self._replaced[LITERAL] else [])]
        return {
            kind: {
                "spans": self._replaced[kind],
                "pairs": self._pairs[kind],
                "kept_as_text": self._kept_as_text[kind],
            }
            for kind in kinds
        }


def describe_protected(protected: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line of the data report for each kind of spans."""
    for kind, counts in protected.items():
        told = f"protect  {kind}: {counts['spans']:,} in the sources of {counts['pairs']:,} pairs"
        if text := counts["kept_as_text"]:
            told += f"; {text:,} others stay text: the target lacks them, or there are too many"
        yield told

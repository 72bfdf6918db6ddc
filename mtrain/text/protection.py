"""Protects spans of text, such as {placeholders} and tags: they come back from a model verbatim.

A model sees a reserved piece, <p1> to <p8>, in place of each protected span, and learns to copy it;
`restore` puts the span back. What a piece stands for is a pure function of the source, so nothing
has to be kept beside the text. Knows no tokenizer.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mtrain.config.protection import SpanKind, SpanPattern, name_of
from mtrain.text.spans import NEEDLES, SPANS

MOST_CONTENTS = 8  # different spans of one text that get a piece; those beyond stay text
PIECES = tuple(f"<p{number}>" for number in range(1, MOST_CONTENTS + 1))
RESERVED = re.compile("|".join(PIECES))
LITERAL = "written as a piece"  # the kind of a <p1> that somebody's text contains
# A piece that stands for nothing goes with the blank before it, unless that would join two words.
NOTHING = re.compile(rf" ?({RESERVED.pattern})(?= |$)|({RESERVED.pattern})")


@dataclass(frozen=True)
class Span:
    """Consecutive characters of a text that are to come back verbatim."""

    start: int
    end: int
    content: str
    kind: str


@dataclass(frozen=True)
class Contents:
    """What the pieces of a text stand for."""

    of_pieces: tuple[str, ...] = ()  # of <p1>, <p2> and so on
    beyond: tuple[str, ...] = ()  # protected as well, but without a piece: they stayed text

    def content_of(self, piece: str) -> str | None:
        """Return what a piece stands for, or None if it stands for nothing."""
        number = PIECES.index(piece)
        return self.of_pieces[number] if number < len(self.of_pieces) else None

    def fill(self, text: str) -> str:
        """Return a text with the contents in place of their pieces; other pieces stay."""
        if not self.of_pieces:
            return text
        return RESERVED.sub(lambda found: self.content_of(found[0]) or found[0], text)


@dataclass(frozen=True)
class Masked:
    """A text with pieces in place of its protected spans."""

    text: str
    contents: Contents | None = None  # None: nothing is protected


@dataclass(frozen=True)
class MaskedPair:
    """A pair with pieces in place of the spans that both sides have."""

    source: str
    target: str
    contents: Contents | None = None  # None: nothing is protected
    replaced: Counter[str] = field(default_factory=Counter)  # spans of the source by kind
    kept_as_text: Counter[str] = field(default_factory=Counter)  # the same, where no piece fits


@dataclass(frozen=True)
class MaskedPairs:
    """Pairs with pieces in place of the spans that both sides have."""

    pairs: Sequence[MaskedPair]

    @property
    def sides(self) -> tuple[list[str], list[str]]:
        """The sources, and the targets."""
        return [pair.source for pair in self.pairs], [pair.target for pair in self.pairs]


@dataclass(frozen=True)
class Restored:
    """An output with the source's spans in place of the pieces."""

    text: str
    num_lost: int = 0  # different protected spans of the source that the output lacks
    num_unexpected: int = 0  # pieces that stood for nothing, which were removed


class Protection:
    """Finds the spans to protect, and replaces them. One without patterns changes no text."""

    def __init__(self, patterns: Mapping[str, re.Pattern[str]]) -> None:
        """Protect what the patterns, by kind, find; where two match, the one that begins first."""
        self._patterns = dict(patterns)

    @staticmethod
    def of(spans: Iterable[SpanKind | SpanPattern]) -> "Protection":
        """Return the protection that `data.protect` lists."""
        return Protection({
            name_of(span): re.compile(span.regex) if isinstance(span, SpanPattern) else SPANS[span]
            for span in spans
        })  # fmt: skip

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def spans(self, text: str) -> list[Span]:
        """Return the spans to protect, in order; they do not overlap.

        Of two that do, the one that begins first is protected, then the longer one. A piece that
        the text contains literally is always protected, so that none is taken for ours.
        """
        if not self:
            return []
        literal = [_span(found, LITERAL) for found in RESERVED.finditer(text)]
        candidates = [
            span
            for kind, pattern in self._patterns.items()
            if any(needle in text for needle in NEEDLES.get(kind, ("",)))
            for found in pattern.finditer(text)
            if (span := _span(found, kind)).content and _is_free(span, literal)
        ]
        spans: list[Span] = []
        for span in sorted([*literal, *candidates], key=lambda span: (span.start, -span.end)):
            if not spans or span.start >= spans[-1].end:
                spans.append(span)
        return spans

    def protect(self, source: str) -> Masked:
        """Return a source as a model translates it: each different span has a piece."""
        if not self:
            return Masked(source)
        spans = self.spans(source)
        contents = _numbered(spans)
        return Masked(_replaced(source, spans, contents), contents)

    def protect_pair(self, source: str, target: str) -> MaskedPair:
        """Return a pair as a model learns it: a span that both sides have has the same piece.

        It may occur more often on one of them. One that a side lacks stays text.
        """
        if not self:
            return MaskedPair(source, target)
        sides = self.spans(source), self.spans(target)
        of_sides = [{span.content for span in spans} for spans in sides]
        shared = of_sides[0] & of_sides[1]
        contents = _numbered([span for spans in sides for span in spans
                              if span.content in shared or span.kind == LITERAL])  # fmt: skip
        has_piece = set(contents.of_pieces)
        replaced, kept_as_text = (
            Counter(span.kind for span in sides[0] if (span.content in has_piece) is is_replaced)
            for is_replaced in (True, False)
        )
        return MaskedPair(
            _replaced(source, sides[0], contents),
            _replaced(target, sides[1], contents),
            contents,
            replaced,
            kept_as_text,
        )

    def protect_pairs(self, sources: Sequence[str], targets: Sequence[str]) -> "MaskedPairs":
        """Return pairs as a model learns them."""
        return MaskedPairs([self.protect_pair(*pair)
                            for pair in zip(sources, targets, strict=True)])  # fmt: skip

    def restore(self, source: str, output: str) -> Restored:
        """Return a model's output with the protected spans of the source that it translated."""
        return restore(output, self.protect(source).contents)


NO_PROTECTION = Protection({})


def restore(output: str, contents: Contents | None) -> Restored:
    """Return a model's output with what its pieces stand for; None leaves it as it is."""
    if contents is None:
        return Restored(output)
    written = RESERVED.findall(output)
    expected = PIECES[: len(contents.of_pieces)]
    num_unexpected = sum(piece not in expected for piece in written)
    if num_unexpected:
        output = NOTHING.sub(
            lambda found: found[0] if (found[1] or found[2]) in expected else "", output
        ).strip()
    text = contents.fill(output)
    num_lost = len(set(expected) - set(written))
    num_lost += sum(content not in text for content in contents.beyond)
    return Restored(text, num_lost, num_unexpected)


def _span(found: re.Match[str], kind: str) -> Span:
    """Return a match as a span without blanks at its ends, which separate words."""
    content = found[0].strip(" ")
    start = found.start() + len(found[0]) - len(found[0].lstrip(" "))
    return Span(start, start + len(content), content, kind)


def _is_free(span: Span, others: Sequence[Span]) -> bool:
    """Return whether a span overlaps none of the others, which are in order."""
    place = bisect_left(others, span.end, key=lambda other: other.start)
    return not place or others[place - 1].end <= span.start


def _numbered(spans: Sequence[Span]) -> Contents:
    """Number the different contents by their first appearance; literal pieces find a place first.

    So no text of ours ever contains a piece that stands for nothing.
    """
    every = list(dict.fromkeys(span.content for span in spans))
    literal = [content for content in every if content in PIECES]
    others = [content for content in every if content not in PIECES]
    chosen = {*literal, *others[: MOST_CONTENTS - len(literal)]}
    return Contents(
        tuple(content for content in every if content in chosen),
        tuple(content for content in every if content not in chosen),
    )


def _replaced(text: str, spans: Sequence[Span], contents: Contents) -> str:
    """Return the text with pieces in place of the spans that have one."""
    piece_of = dict(zip(contents.of_pieces, PIECES, strict=False))
    parts, end = [], 0
    for span in spans:
        if span.content in piece_of:
            parts += [text[end : span.start], piece_of[span.content]]
            end = span.end
    return "".join([*parts, text[end:]])

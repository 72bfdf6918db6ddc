"""What `data.protect` lists: kinds of spans by name, and patterns of one's own."""

import re
from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Discriminator, Tag

from mtrain.config.section import Section

SpanKind = Literal["placeholders", "tags", "urls", "emails", "numbers"]
KINDS: tuple[SpanKind, ...] = get_args(SpanKind)
PROBE = "a B, 1.5 {x} <b>é</b>"  # a pattern that finds nothing in it but ends or gaps is of no use


def _known_kind(name: Any) -> Any:
    """Raise ValueError, with the nearest kind, for an unknown name."""
    if name not in KINDS:
        close = get_close_matches(name, KINDS, n=1) if isinstance(name, str) else []
        known = f"did you mean {close[0]}?" if close else (
            f"known here: {', '.join(KINDS)}, or a pattern: {{regex: 'PN-[0-9]+'}}")  # fmt: skip
        raise ValueError(f"there is no {name}; {known}")
    return name


def _finds_text(pattern: str) -> str:
    """Raise ValueError for an invalid regular expression, or one that matches the empty string."""
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{pattern}: not a regular expression: {error}") from None
    if any(not found[0] for text in ("", PROBE) for found in compiled.finditer(text)):
        raise ValueError(f"{pattern}: matches the empty string, which cannot be protected")
    return pattern


class SpanPattern(Section):
    """Spans that a regular expression finds."""

    regex: Annotated[str, AfterValidator(_finds_text)]
    """regular expression of Python, such as 'PN-[0-9]+'; each match comes back verbatim"""


def _is_pattern(value: Any) -> str:
    return "<pattern>" if isinstance(value, dict | SpanPattern) else "<kind>"


ProtectedSpan = Annotated[
    Annotated[SpanKind, BeforeValidator(_known_kind), Tag("<kind>")]
    | Annotated[SpanPattern, Tag("<pattern>")],
    Discriminator(_is_pattern),
]


def name_of(span: SpanKind | SpanPattern) -> str:
    """Return what reports call these spans."""
    return f"regex {span.regex}" if isinstance(span, SpanPattern) else span


def check_different(spans: tuple[ProtectedSpan, ...]) -> tuple[ProtectedSpan, ...]:
    """Raise ValueError if the same spans are listed twice."""
    names = list(map(name_of, spans))
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is listed twice: keep one")
    return spans

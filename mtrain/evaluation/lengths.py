"""Lengths of texts: in words, or in characters for a language without spaces."""

from collections.abc import Sequence


def length_of(text: str, is_spaced: bool) -> int:
    """Return the length of a text."""
    words = text.split()
    return len(words) if is_spaced else sum(map(len, words))


def lengths(hypothesis: str, references: Sequence[str], is_spaced: bool) -> tuple[int, int]:
    """Return the length of a hypothesis, and that of the reference nearest in length."""
    length = length_of(hypothesis, is_spaced)
    others = [length_of(reference, is_spaced) for reference in references]
    return length, min(others, key=lambda other: (abs(other - length), other))

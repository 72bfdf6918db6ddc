"""The normal form of a text: what it ignores, and what it keeps."""

import pytest

from mtrain.text.normal import normalise
from tests.traps import Trap, every_trap


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("A dog, a cat.", "a dog a cat"),
        (" Die  Straße\u00a0ist\u2028weit! ", "die strasse ist weit"),
        ("\u201eWas?\u201c \u2013 1.000,5 %", "was 1 000 5"),
        ("ＡＢＣ １２３", "abc 123"),
        ("cafe\u0301 ﬁn", "café fin"),
        ("snake_case", "snake case"),
        ("हिन्दी।", "हिन्दी"),  # marks belong to the words
        ("日本語、だ。", "日本語 だ"),
        ("", ""),
        (" \t", ""),
        (" ?! ", "?!"),
        ("\u2026", "\u2026"),
    ],
)
def test_case_punctuation_and_spacing_are_ignored(text: str, normal: str) -> None:
    assert normalise(text) == normal


def test_numbers_and_accents_tell_texts_apart() -> None:
    texts = ["Seite 1", "Seite 2", "schon", "schön", "?", "!"]
    assert len(set(map(normalise, texts))) == len(texts)


@every_trap
def test_any_text_has_one(trap: Trap) -> None:
    text = trap.raw.decode("utf-8", "replace")
    assert normalise(text) == normalise(f" {text} ")
    assert bool(normalise(text)) == bool(text.strip())

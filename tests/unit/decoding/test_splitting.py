"""Lines too long for a model: every piece kept, no segment too long, cut where it hurts least."""

import random
from itertools import pairwise

import pytest

from mtrain.decoding.splitting import join_segments, split_pieces


def segments(pieces: list[str], max_pieces: int) -> list[list[str]]:
    ends = split_pieces(pieces, max_pieces)
    return [pieces[start:end] for start, end in pairwise([0, *ends])]


def test_segments_fit_and_together_are_the_whole() -> None:
    generator = random.Random(1)
    for _ in range(500):
        length = generator.randint(1, 60)
        pieces = generator.choices(["▁a", "b", "▁c.", ".", "!", "▁", "。"], k=length)
        max_pieces = generator.randint(1, 20)
        parts = segments(pieces, max_pieces)
        assert [piece for part in parts for piece in part] == pieces
        assert all(1 <= len(part) <= max_pieces for part in parts)


CASES = {
    "what fits is not cut": (["▁a", "▁b", "▁c"], 3, [3]),
    "behind the last sentence end that fits": (
        ["▁a", ".", "▁b", "?", "▁c", ".", "▁d", "▁e", "▁f", "▁g"], 8, [6, 10]),
    "a sentence end in the first half counts for nothing": (
        ["▁a", ".", "▁b", "▁c", "▁d", "▁e", "▁f"], 6, [6, 7]),
    "a sentence may end in the last piece that fits": (
        ["▁a", "▁b", "▁c", ".", "▁d"], 4, [4, 5]),
    "else before the last word": (["▁a", "▁b", "x", "▁c", "y", "z"], 5, [3, 6]),
    "a point inside a word is no end": (["▁1", "▁3", ".", "1", "4", "▁x", "▁y"], 5, [5, 7]),
    "a word too long is cut anywhere": (["▁a", *"bcdefgh"], 3, [3, 6, 8]),
    "a sentence ends without a space where none is written": (
        ["▁你", "好", "。", "世", "界"], 4, [3, 5]),
}  # fmt: skip


@pytest.mark.parametrize(("pieces", "max_pieces", "ends"), CASES.values(), ids=CASES.keys())
def test_cuts(pieces: list[str], max_pieces: int, ends: list[int]) -> None:
    assert split_pieces(pieces, max_pieces) == ends


@pytest.mark.parametrize(
    ("texts", "starts_word", "joined"),
    [
        (["one"], [True], "one"),
        (["one", "two", "three"], [True, True, True], "one two three"),
        (["one", "two"], [False, False], "onetwo"),
        (["", "two"], [True, True], "two"),
        (["one", "", "three"], [True, True, True], "one three"),
        (["", ""], [True, True], ""),
    ],
)
def test_joined_segments_have_a_space_where_the_source_had_one(
    texts: list[str], starts_word: list[bool], joined: str
) -> None:
    assert join_segments(texts, starts_word) == joined

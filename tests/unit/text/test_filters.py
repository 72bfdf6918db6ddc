"""What is left out of training, for which reason, and the ledger of it."""

import itertools

import numpy as np
import pytest

from mtrain.config.data import FilterConfig
from mtrain.text.filters import (
    BASIC_REASONS,
    CODES,
    KEPT,
    REASONS,
    SAMPLE_CHARACTERS,
    SAMPLES_PER_REASON,
    Ledger,
    judge_lengths,
    judge_texts,
    pair_hashes,
)
from tests.traps import Trap, every_trap


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        (b"a", b"b", "kept"),
        (b"a\xff", b"b", "invalid_utf8"),
        (b"a", b"b\xc3", "invalid_utf8"),
        (b"", b"\xff", "invalid_utf8"),  # the worst is told first
        (b"", b"b", "empty"),
        (b"a", b"", "empty"),
        (b"", b"", "empty"),
        (b" \t\r\x00", b"b", "empty"),
        ("\ufeff".encode(), b"b", "empty"),
        (b"a b", b"a b", "identical"),
        (b"a  b ", b"\ta b\r", "identical"),  # for the model they are
        (b"a b", b"A b", "kept"),
    ],
)
def test_text_is_judged_by_its_first_fault(source: bytes, target: bytes, reason: str) -> None:
    for company in ([], [(b"x", b"y")], [(b"\xff", b"y")], [(b"x\n", b"")]):
        sources, targets = zip((source, target), *company, strict=True)
        assert REASONS[judge_texts(sources, targets, FilterConfig())[2][0]] == reason


def test_identical_pairs_stay_where_they_are_wanted() -> None:
    assert judge_texts([b"a"], [b"a"], FilterConfig(drop_identical=False))[2] == [KEPT]


@every_trap
def test_a_trap_on_either_side_is_kept_if_it_is_text_at_all(trap: Trap) -> None:
    reason = "invalid_utf8" if not trap.is_valid else "kept" if trap.clean else "empty"
    other = b"something else"
    for raw, clean in (
        ((trap.raw, other), (trap.clean, other.decode())),
        ((other, trap.raw), (other.decode(), trap.clean)),
    ):
        sources, targets, codes = judge_texts([raw[0], b"x"], [raw[1], b"y"], FilterConfig())
        assert (sources, targets) == ([clean[0], "x"], [clean[1], "y"])
        assert codes.tolist() == [CODES[reason], KEPT]


@pytest.mark.parametrize(
    ("lengths", "reason"),
    [
        ((1, 1), "kept"),
        ((19, 19), "kept"),  # and the end mark
        ((20, 19), "length"),
        ((1, 20), "length"),
        ((10, 1), "kept"),  # too short for a ratio
        ((11, 1), "ratio"),
        ((12, 3), "kept"),
        ((13, 3), "ratio"),
        ((3, 13), "ratio"),
        ((0, 5), "empty"),  # nothing that the tokenizer knows of
        ((0, 0), "empty"),
    ],
)
def test_lengths_are_judged_with_both_borders_kept(lengths: tuple[int, int], reason: str) -> None:
    filters = FilterConfig(max_tokens=20, max_ratio=4)
    source, target = np.array([lengths, (1, 1)]).T
    assert [REASONS[code] for code in judge_lengths(source, target, filters)] == [reason, "kept"]


def test_the_hash_tells_pairs_apart_by_both_sides_and_their_order() -> None:
    texts = ["", "a", "b", "a b", "b a", "ab", "a\u2028b"]
    pairs = [*itertools.product(texts, texts)] * 2
    hashes = pair_hashes(*zip(*pairs, strict=True)).tolist()
    assert len(set(hashes)) == len(texts) ** 2
    assert hashes[: len(hashes) // 2] == hashes[len(hashes) // 2 :]


def test_the_hash_is_the_same_in_every_process() -> None:
    assert pair_hashes(["a"], ["b"]).tolist() == [-3053320904733732015]


def test_the_ledger_counts_all_and_keeps_a_few_of_what_is_left_out() -> None:
    ledger = Ledger("mine")
    for start in (0, 2, 4, 6, 8):
        sources = ["kept", f"{start}" * 1000, f"{start + 1}" * 1000, "kept"]
        codes = np.array([KEPT, CODES["length"], CODES["length"], KEPT], np.uint8)
        ledger.note(codes, sources, ["target"] * 4)
    ledger.note(np.array([CODES["ratio"]], np.uint8), ["source"], ["target"])
    counts, samples = ledger.as_dict()["counts"], ledger.as_dict()["samples"]
    assert {reason: count for reason, count in counts.items() if count} == {
        "kept": 10,
        "length": 10,
        "ratio": 1,
    }
    assert set(counts) == set(BASIC_REASONS)
    assert set(samples) == {"length", "ratio"}
    assert [source for source, _ in samples["length"]] == [
        f"{number}" * SAMPLE_CHARACTERS for number in range(SAMPLES_PER_REASON)
    ]


def test_the_ledger_tells_a_text_once_and_a_pair_on_both_sides() -> None:
    ledger = Ledger("mine")
    for sides in (["one text", "one text"], ["left", "right"]):
        ledger.samples = {"empty": [(sides[0], sides[1])]}
        assert [ledger.tell().count(side) for side in dict.fromkeys(sides)] == [1] * len({*sides})

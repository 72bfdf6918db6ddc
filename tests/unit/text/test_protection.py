"""Protected spans: whatever a text holds, what is replaced comes back as it was."""

import random
import re
from collections.abc import Sequence
from itertools import pairwise

import pytest

from mtrain.config.protection import KINDS, SpanPattern
from mtrain.text.protection import (
    LITERAL,
    MOST_CONTENTS,
    NO_PROTECTION,
    PIECES,
    RESERVED,
    Protection,
    restore,
)
from mtrain.text.spans import NEEDLES, SPANS

ALL = Protection.of([*KINDS, SpanPattern(regex=r"PN-\d+"), SpanPattern(regex=r"(a+) \1")])
FRAGMENTS = [
    *("{name}", "{0}", "{", "}", "<b>", "</b>", '<a href="x y">', "<", ">", "<p", "p1>", "%s", "%"),
    *("https://a.de/b?c=1", "www.x.org", "me@x.org", "@", "12", "3,456.7", "PN-12", "aa aa", "a"),
    *(" ", " ", " ", "é", "中文", "\u00a0", ".", ",", "{{ x }}", "[%key:a::b%]", "word"),
    *PIECES, "<p9>", "<P1>",
]  # fmt: skip


def random_texts(seed: int, num_texts: int, longest: int = 14) -> list[str]:
    """Return texts as they are after cleaning: single blanks, and none at the ends."""
    draw = random.Random(seed)
    made = ("".join(draw.choices(FRAGMENTS, k=draw.randint(0, longest))) for _ in range(num_texts))
    return [" ".join(filter(None, text.split(" "))) for text in made]


def test_what_is_replaced_comes_back_in_any_text() -> None:
    masked_texts = 0
    for text in random_texts(1, 3000):
        masked = ALL.protect(text)
        restored = ALL.restore(text, masked.text)
        assert (restored.text, restored.num_lost, restored.num_unexpected) == (text, 0, 0)
        masked_texts += masked.text != text
    assert masked_texts > 1500


def test_a_piece_in_a_masked_text_always_stands_for_something() -> None:
    for text in random_texts(2, 3000):
        masked = ALL.protect(text)
        assert masked.contents is not None
        written = RESERVED.findall(masked.text)
        assert list(dict.fromkeys(written)) == list(PIECES[: len(masked.contents.of_pieces)])
        assert len(set(masked.contents.of_pieces)) == len(masked.contents.of_pieces)


def test_both_sides_of_a_pair_come_back_and_share_what_has_a_piece() -> None:
    texts = random_texts(3, 3000)
    num_shared = 0
    for source, target in zip(texts[::2], texts[1::2], strict=True):
        pair = ALL.protect_pair(source, target)
        assert pair.contents is not None
        assert pair.contents.fill(pair.source) == source
        assert pair.contents.fill(pair.target) == target
        of_sides = [set(RESERVED.findall(side)) for side in (pair.source, pair.target)]
        one_sided = of_sides[0] ^ of_sides[1]
        assert {pair.contents.content_of(piece) for piece in one_sided} <= set(PIECES)
        num_shared += bool(of_sides[0] & of_sides[1])
    assert num_shared > 300


def test_spans_are_ordered_without_overlap_and_never_touch_blanks_or_pieces() -> None:
    for text in random_texts(4, 2000):
        spans = ALL.spans(text)
        assert all(one.end <= other.start for one, other in pairwise(spans))
        for span in spans:
            assert text[span.start : span.end] == span.content == span.content.strip(" ") != ""
            assert span.content in PIECES or not RESERVED.search(span.content)


def test_nothing_is_replaced_without_protection() -> None:
    for text in random_texts(5, 200):
        assert NO_PROTECTION.protect(text).text == text
        assert NO_PROTECTION.restore(text, text).text == text
        pair = NO_PROTECTION.protect_pair(text, text)
        assert (pair.source, pair.target) == (text, text)


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        ("placeholders", "Turn {name} on in {0} s, {}", ["{name}", "{0}", "{}"]),
        ("placeholders", "{x:.2f} ${HOME} %{count} {{ state }} {% if x %}",
         ["{x:.2f}", "${HOME}", "%{count}", "{{ state }}", "{% if x %}"]),
        ("placeholders", "%s of %(total)d at %1$s: %.2f, %@", ["%s", "%(total)d", "%1$s", "%.2f",
                                                                "%@"]),
        ("placeholders", "100% sure, 5 % s, 50%d", []),
        ("placeholders", "{count, plural, one {# day of {total}} other {# days}}", ["{total}"]),
        ("placeholders", "see [%key:common::state%] {not a name}", ["[%key:common::state%]"]),
        ("tags", 'a <b>c</b> <a href="x y">z</a><br/> 1 < 2 > 0',
         ["<b>", "</b>", '<a href="x y">', "</a>", "<br/>"]),
        ("urls", "See https://a.de/b?c=1, (www.x.org/y). ftp://z",
         ["https://a.de/b?c=1", "www.x.org/y", "ftp://z"]),
        ("emails", "Write to a.b+c@d-e.co.uk. \u8acb\u806f\u7d61me@x.org\u3002",
         ["a.b+c@d-e.co.uk", "me@x.org"]),
        ("urls", "\u898bhttps://a.de/\u9801\u3002(www.x.org)", ["https://a.de/", "www.x.org"]),
        ("numbers", "1,234.5 km in 2024, mp3, 10GB", ["1", "234", "5", "2024", "10"]),
    ],
)  # fmt: skip
def test_each_kind_finds_what_it_is_named_after(kind: str, text: str, found: list[str]) -> None:
    assert [match[0] for match in SPANS[kind].finditer(text)] == found


def test_a_long_run_of_zeros_takes_no_longer_than_its_length() -> None:
    """Where two parts of a pattern can take the same characters, this would take minutes."""
    for text in ("%" + "0" * 100_000, "%(a)" + "0" * 100_000):
        assert not SPANS["placeholders"].search(text)


def test_a_text_without_the_needles_of_a_kind_has_no_such_span() -> None:
    for text in random_texts(7, 2000, longest=4):
        for kind, needles in NEEDLES.items():
            assert any(needle in text for needle in needles) or not SPANS[kind].search(text)


def test_pieces_are_numbered_by_the_first_appearance_of_each_content() -> None:
    masked = ALL.protect("{b} then {a}, {b} and PN-7")
    assert masked.text == "<p1> then <p2>, <p1> and <p3>"
    assert restore("<p3>: <p2>, <p2>", masked.contents).text == "PN-7: {a}, {a}"


def test_the_span_that_begins_first_then_the_longer_one_is_protected() -> None:
    masked = ALL.protect('<a href="https://x.de/{id}"> {id} me@12.de')
    assert masked.contents is not None
    assert masked.contents.of_pieces == ('<a href="https://x.de/{id}">', "{id}", "me@12.de")


def test_what_one_side_alone_has_stays_text_and_is_counted() -> None:
    pair = ALL.protect_pair("{a} {b} 5 {a}", "{b} {b} {c} five")
    assert (pair.source, pair.target) == ("{a} <p1> 5 {a}", "<p1> <p1> {c} five")
    assert pair.replaced == {"placeholders": 1}
    assert pair.kept_as_text == {"placeholders": 2, "numbers": 1}


def names(count: int) -> list[str]:
    return [f"{{n{number}}}" for number in range(count)]


def test_more_spans_than_pieces_stay_text_and_are_still_counted_where_they_get_lost() -> None:
    text = " ".join(names(MOST_CONTENTS + 2))
    masked = ALL.protect(text)
    assert masked.text == " ".join([*PIECES, *names(MOST_CONTENTS + 2)[-2:]])
    assert ALL.restore(text, masked.text).num_lost == 0
    restored = ALL.restore(text, " ".join([*PIECES[1:], "{n8} {n0}"]))
    assert restored.num_lost == 2  # <p1> and {n9}: what is written beside a piece does not count


def test_a_piece_that_the_text_itself_contains_is_protected_before_anything_else() -> None:
    text = " ".join([*names(MOST_CONTENTS), "<p3>"])
    masked = ALL.protect(text)
    assert masked.contents is not None
    assert "<p3>" in masked.contents.of_pieces
    assert masked.contents.fill(masked.text) == text
    pair = ALL.protect_pair("no piece", "but <p3> here")  # <p3> would be the third of nothing
    assert pair.target == "but <p1> here"
    assert Protection.of(["tags"]).spans("<p3>")[0].kind == LITERAL
    around = ALL.spans("{{ a <p3> b }} {x} <p1> {{ <p2> }}")  # a span around one stays text
    assert [span.content for span in around] == ["<p3>", "{x}", "<p1>", "<p2>"]


@pytest.mark.parametrize(
    ("output", "text", "lost", "unexpected"),
    [
        ("<p1> on", "{x} on", 0, 0),
        ("on", "on", 1, 0),
        ("<p1> <p1>", "{x} {x}", 0, 0),
        ("<p3> <p1> a <p2> b <p2>", "{x} a b", 0, 3),
        ("a <p2>b(<p1>)<p8>.", "a b({x}).", 0, 2),
        ("<p2>", "", 1, 1),
    ],
)
def test_an_unexpected_piece_is_removed_and_a_lost_span_counted(
    output: str, text: str, lost: int, unexpected: int
) -> None:
    restored = ALL.restore("turn {x}", output)
    assert restored.text == text
    assert (restored.num_lost, restored.num_unexpected) == (lost, unexpected)


def test_patterns_of_ones_own_may_have_groups_and_flags() -> None:
    protection = Protection.of([SpanPattern(regex=r"(?i)(x)\1"), SpanPattern(regex=r" ?#\d* ?")])
    masked = protection.protect("a xX #12 b # c")
    assert masked.contents is not None
    assert masked.contents.of_pieces == ("xX", "#12", "#")
    assert masked.text == "a <p1> <p2> b <p3> c"
    only_blanks = Protection({"blanks": re.compile(" +")})
    assert only_blanks.protect("a b").text == "a b"


def test_restoring_needs_nothing_but_the_source() -> None:
    texts: Sequence[str] = random_texts(6, 300)
    outputs = [ALL.protect(text).text[::-1] + "<p2>" for text in texts]
    for text, output in zip(texts, outputs, strict=True):
        assert ALL.restore(text, output) == restore(output, ALL.protect(text).contents)

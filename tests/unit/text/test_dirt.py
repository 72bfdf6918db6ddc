"""Checks of dirt: clean pairs stay, dirty ones go, and no text is too odd to be judged."""

import unicodedata
from typing import get_args

import numpy as np
import pytest

from mtrain.config.data import Check
from mtrain.text.characters import Texts, kinds, letters_of
from mtrain.text.dirt import CHECKS, Block, near_hashes, num_sentences
from mtrain.text.normal import normal_hashes, normalise
from mtrain.text.scripts import scripts_of
from tests.traps import TRAPS

LONG = "This is a sentence, which is long enough to be judged by its letters."


def failing(check: str, *pairs: tuple[str, str], languages: tuple[str, str]) -> list[bool]:
    """Return which pairs fail a check; all together and each alone must agree."""
    found = judge(check, *pairs, languages=languages)
    assert found == [judge(check, pair, languages=languages)[0] for pair in pairs]
    return found


def judge(check: str, *pairs: tuple[str, str], languages: tuple[str, str]) -> list[bool]:
    sources, targets = zip(*pairs, strict=True)
    is_open = np.ones(len(sources), bool)
    return CHECKS[check](Block(Texts(sources), Texts(targets), languages, is_open)).tolist()


def cases(check: str, clean: str, dirty: str) -> list[object]:
    """Return parameters: the pairs of a check, a line each, that stay and that go."""
    return [
        pytest.param(check, *line.strip().split(" | "), fails, id=f"{check}: {line.strip()}")
        for lines, fails in ((clean, False), (dirty, True))
        for line in lines.strip().split("\n")
    ]


@pytest.mark.parametrize(
    ("check", "source", "target", "fails"),
    [
        *cases(
            "letters",
            """
            A dog. | Ein Hund.
            Room 5, 2nd floor | Zimmer 5, 2. Stock
            See https://example.com/a. | Siehe https://example.com/a.
            C-3PO! | R2-D2?
            हिन्दी। | 日本語。
            IRMÃ MAIS «É» | Ã “É”
            """,
            """
            A dog. | ***
            -- 12.50 -- | 12,50 Euro
            https://example.com/a-dog | Ein Hund
            www.example.com | www.example.org
            Write | a.dog@example.com
            A table | |1|12|3.5|
            A beautiful girl | Ein schÃ¶nes MÃ¤dchen
            A beautiful girl | Une fille est Ã cÃ´tÃ©
            He said “no” | Er sagte â€žneinâ€œ
            """,
        ),
        *cases(
            "html",
            """
            A <b>dog</b> runs. | Ein <b>Hund</b> läuft.
            A dog<br> runs. | Ein Hund<BR/> läuft.
            Tom &amp; Jerry | Tom &amp; Jerry
            i &apos;m &quot; fine &quot; | es geht mir gut
            a < b & c > d | wenn a < b
            I <3 AT&T; yes | Ich mag AT&T
            <name> runs, <my_dog> too | <name> läuft
            """,
            """
            A <b>dog</b> runs. | Ein Hund läuft.
            A dog runs. | Ein Hund<br/>läuft.
            A dog | <!-- Hund --> Ein Hund
            Tom &amp; Jerry | Tom & Jerry
            Tom&#39;s dog | Toms Hund
            &quot;A dog&quot; | Ein Hund
            1 &amp;lt; 2 | 1 &amp;lt; 2
            <a href="x">A dog</a> | <i>Ein Hund</i>
            """,
        ),
        *cases(
            "numbers",
            """
            In 1999, 1,000.5 m | 1999: 1.000,5 m
            10 000 people | 10,000 Menschen
            At 10:30 | Um 10.30 Uhr
            Room 007 | Zimmer ７
            ٣ dogs | 3 Hunde
            12 dogs | zwölf Hunde
            2 dogs, 1999 | zwei Hunde, 1999
            30 dogs and 40 cats | 40 Katzen und 30 Hunde
            """,
            """
            In 1999 | Im Jahr 1998
            3 dogs | 4 Hunde
            13 dogs | dreizehn Hunde
            50 of 50 | 50
            1,000.5 m | 1.000,6 m
            20 20 | 20
            """,
        ),
        *cases(
            "sentences",
            """
            A dog. A cat. | Ein Hund, eine Katze.
            It costs 3.5 million, e.g. now. | Das kostet z. B. 3,5 Mio. Euro.
            J. S. Bach was born on 21 March. | J. S. Bach wurde am 21. März geboren.
            Well... Yes! | Na ja... Ja!
            "Is it?" he asked. | „Ist es so?“ fragte er. Ja.
            A dog. A cat. A bird. | 狗。猫。鸟。
            """,
            """
            A dog. A cat. A bird. | Ein Hund.
            Really? "Yes!" No. | Wirklich nicht
            dog . cat . bird . | Ein Hund.
            A dog. | 狗。猫。鸟。
            """,
        ),
    ],
)
def test_clean_pairs_stay_and_dirty_ones_go(
    check: str, source: str, target: str, fails: bool
) -> None:
    for pair in ((source, target), (target, source)):
        languages = ("en", "de")
        assert failing(check, pair, ("", ""), pair, languages=languages)[::2] == [fails] * 2


@pytest.mark.parametrize(
    ("language", "own", "other"),
    [
        ("de", "Fußgängerübergang", "переходный"),
        ("ru", "переходный Windows", "Übergangszeit"),
        ("sr", "прелазак Übergangszeit", "דיבור בעברית"),
        ("sr", "prelazak preko ulice", "αβγδεζηθικλμν"),
        ("zho_Hans", "这是一个足够长的句子", "これはながいぶんです"),
        ("ja", "これは長い文です、カタカナも", "이것은긴문장입니다아주길다"),
        ("ko", "이것은 漢字 문장입니다", "This is English"),
        ("hi", "यह एक लंबा वाक्य है और", "This is English"),
        ("el", "αβγδεζηθικλμν Windows", "ｗｉｄｅ　ｌａｔｉｎ　ｌｅｔｔｅｒｓ"),
        ("ar", "هذه جملة طويلة جدا", "This is English"),
    ],
)
def test_letters_of_another_script_are_found(language: str, own: str, other: str) -> None:
    pairs = [(LONG, text) for text in (own, other, "IT", "12 %")]
    assert failing("script", *pairs, languages=("en", language)) == [False, True, False, False]


def test_a_code_that_names_its_script_means_that_script_alone() -> None:
    assert set(scripts_of("sr")) == {"Cyrl", "Latn"}
    assert scripts_of("sr-Latn") == scripts_of("srp_Latn") == ("Latn",)
    assert scripts_of("uzb_Cyrl") == ("Cyrl",)
    assert scripts_of("xx") == scripts_of("got") == ()  # not judged
    assert letters_of(("Cyrl",))[ord("ж")]
    assert not letters_of(("Cyrl",))[ord("z")]


def test_sentences_are_counted() -> None:
    texts = [
        "",
        ".",
        "A dog",
        "A dog.",
        "A dog. A cat",
        "Was? Nein! (Doch.) So…",
        "一。二！三",
        "...",
    ]
    assert num_sentences(Texts(texts)).tolist() == [1, 1, 1, 1, 2, 4, 3, 1]


ODD = [*(trap.clean for trap in TRAPS.values()), "<" * 5000, "&" * 5000 + ";", "<a" * 5000,
       "1" * 9000, "1," * 5000, "." * 5000, "@" * 99, "\U0010ffff", "\U000e0100", "\ud800", "²½①Ⅷ",
       "۱۲۳", "\u0301", "İstanbul", "www.", "://"]  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
def test_no_text_is_too_odd(check: str) -> None:
    if check == "language":
        pytest.importorskip("py3langid")
    pairs = [(one, other) for text in ODD for one, other in ((text, LONG), (LONG, text))]
    found = judge(check, *pairs, languages=("en", "xx"))
    assert found == [judge(check, pair, languages=("en", "xx"))[0] for pair in pairs]
    judge(check, ("", ""), languages=("en", "de"))  # ends without an error


def test_every_check_of_the_configuration_is_there() -> None:
    assert {*CHECKS, "near_duplicates"} == set(get_args(Check))


def test_hashes_are_those_of_the_normal_form() -> None:
    random = np.random.default_rng(1)
    letters = list(
        "aAbßé .,?!1\u0301İ가각ᄀ\u1161ह\u094dﬁ①½\u00a0\u200d\U000e0100\ud800😀٣ŉ\u0345Ͱ"
    )
    texts = ["".join(random.choice(letters, random.integers(0, 6))).strip() for _ in range(20_000)]
    hashes = normal_hashes(Texts([*texts, *ODD])).tolist()
    by_form: dict[str, int] = {}
    for text, found in zip([*texts, *ODD], hashes, strict=True):
        assert by_form.setdefault(normalise(text), found) == found, text
    assert len(set(by_form.values())) == len(by_form)
    for text, found in zip(texts[:500], hashes, strict=False):
        assert normal_hashes(Texts([text])).tolist() == [found]


def test_near_duplicates_differ_in_case_punctuation_and_spaces_alone() -> None:
    pairs = [("A dog.", "Ein Hund."), ("a DOG", "„Ein  Hund!“"), ("A dog.", "Ein Hund 2"),
             ("Ein Hund.", "A dog."), ("A", "dog Ein Hund"), ("?", "!"), ("!", "!")]  # fmt: skip
    sources, targets = zip(*pairs, strict=True)
    block = Block(Texts(sources), Texts(targets), ("en", "de"), np.ones(len(pairs), bool))
    hashes = near_hashes(block).tolist()
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == len(pairs) - 1
    assert not set(near_hashes(block, ("en", "de")).tolist()) & set(hashes)
    assert near_hashes(block)[0] == 7646198527022951615  # the same in every process


def test_tables_agree_with_unicode() -> None:
    table = kinds()
    for character in "aßжह\u094d7½ \u00a0.。」😀\n日":
        category = unicodedata.category(character)
        assert bool(table[ord(character)] & 1) == (category[0] == "L")

"""Checks of `data.filters.checks`: what real corpora contain and no pair should.

Each check looks at a block of cleaned pairs and returns which fail. Counts of characters come from
arrays; only texts with a digit, `<`, `&`, a URL or a suspect character are looked at one by one.
Near duplicates need all pairs: see `mtrain.data.duplicates`.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from mtrain.config.corpora import Languages
from mtrain.text.characters import (
    BLANK,
    CLOSING,
    DIGIT,
    LETTER,
    LOWER,
    MARK,
    STOP,
    WIDE_STOP,
    Texts,
    letters_of,
    script_numbers,
)
from mtrain.text.identification import are_foreign
from mtrain.text.normal import normal_hashes
from mtrain.text.numbers import numbers_agree
from mtrain.text.scripts import MIN_SCRIPT_LETTERS, scripts_of
from mtrain.text.spans import TAG

Failures = npt.NDArray[np.bool_]  # for each pair, whether it fails
MAX_SENTENCES_APART = 1  # translators join two sentences, or split one
LOST_BLANK = re.compile("(?<=[ÂÃ]) ")  # a no-break space before cleaning
URL = re.compile(r"(?:https?://|www\.)\S+|\S+@\S+\.\w+")
ENTITY = re.compile(r"&(#\d{1,7}|#x[0-9a-f]{1,6}|[a-z]{2,8}\d{0,2});", re.IGNORECASE)
ESCAPED_TWICE = re.compile(r"&amp;(#?[a-z0-9]{2,8});", re.IGNORECASE)
# Moses' tokenizer writes quotes as these words; a translation may do without.
MOSES_QUOTE = re.compile(r"(?<!\S)&quot;(?!\S)|(?<!\S)&apos;|&apos;(?!\S)")


@dataclass(frozen=True)
class Block:
    """Cleaned pairs of one corpus."""

    source: Texts
    target: Texts
    languages: Languages
    is_open: Failures  # for each pair, whether it matters that it fails

    @property
    def sides(self) -> tuple[tuple[Texts, str], tuple[Texts, str]]:
        """Each side with its language."""
        return (self.source, self.languages[0]), (self.target, self.languages[1])


def failing_html(block: Block) -> Failures:
    """Return the pairs with tags or entities that one side alone has, or escaped twice."""
    fails = np.zeros(len(block.source), bool)
    for row in _rows_with(block, "<", "&"):
        texts = block.source.texts[row], block.target.texts[row]
        source, target = map(_markup, texts)
        fails[row] = source != target or any(map(ESCAPED_TWICE.search, texts))
    return fails


def failing_letters(block: Block) -> Failures:
    """Return the pairs with a side that is mainly symbols or numbers, only URLs, or mojibake."""
    fails = np.zeros(len(block.source), bool)
    for side, _ in block.sides:
        fails |= _few_letters(side) | _mojibake(side)
    return fails


def failing_script(block: Block) -> Failures:
    """Return the pairs with a side whose letters are mostly of scripts that are not its own."""
    fails = np.zeros(len(block.source), bool)
    for side, language in block.sides:
        scripts = scripts_of(language)
        if scripts:
            num_letters = side.count(script_numbers()[side.codes] > 0)
            num_own = side.count(letters_of(scripts)[side.codes])
            fails |= (num_letters >= MIN_SCRIPT_LETTERS) & (2 * num_own < num_letters)
    return fails


def failing_language(block: Block) -> Failures:
    """Return the open pairs with a side that is in another language."""
    fails = np.zeros(len(block.source), bool)
    for side, language in block.sides:
        rows = np.flatnonzero(block.is_open & ~fails)
        fails[rows] = are_foreign([side.texts[row] for row in rows.tolist()], language)
    return fails


def failing_numbers(block: Block) -> Failures:
    """Return the pairs whose sides have different numbers.

    See `numbers_agree`.
    """
    fails = np.zeros(len(block.source), bool)
    has_digit = (block.source.count_kind(DIGIT) + block.target.count_kind(DIGIT)) > 0
    for row in np.flatnonzero(has_digit).tolist():
        fails[row] = not numbers_agree(block.source.texts[row], block.target.texts[row])
    return fails


def failing_sentences(block: Block) -> Failures:
    """Return the pairs with at least two more sentences on one side."""
    numbers = num_sentences(block.source), num_sentences(block.target)
    fails: Failures = np.abs(numbers[0] - numbers[1]) > MAX_SENTENCES_APART
    return fails


# In this order; a pair gets the name of the first that it fails. `language` is slow and comes after
# what can do without.
CHECKS: dict[str, Callable[[Block], Failures]] = {
    "html": failing_html,
    "letters": failing_letters,
    "script": failing_script,
    "language": failing_language,
    "numbers": failing_numbers,
    "sentences": failing_sentences,
}


def num_sentences(texts: Texts) -> npt.NDArray[np.int64]:
    """Return how many sentences each text seems to have, one more than the ends within it.

    An end is a stop, perhaps a closing mark, then a blank, then neither a lower-case letter nor a
    digit. A full stop ends a sentence only after two letters, or alone as in tokenised text: not
    in `z. B.`, `J. Smith`, `1. Januar`.
    """
    codes = np.concatenate([texts.codes, np.full(4, ord("\n"), np.uint32)])
    kinds = np.concatenate([texts.kinds, np.full(4, BLANK, np.uint8)])
    at = np.flatnonzero(kinds & (STOP | WIDE_STOP))
    after = at + 1
    after += (kinds[after] & CLOSING) != 0
    is_wide = (kinds[at] & WIDE_STOP) != 0
    ends_wide = (kinds[after] & (STOP | WIDE_STOP | BLANK)) == 0
    is_alone = (kinds[at - 1] & BLANK) != 0  # at 0, that of the last text's end
    follows = kinds[after + 1] & (LOWER | DIGIT | BLANK)
    ends = ((kinds[after] & BLANK) != 0) & (codes[after] != ord("\n"))
    ends &= (follows == 0) | (is_alone & (follows != BLANK))
    is_word = ((kinds[at - 1] & kinds[at - 2] & LETTER) != 0) | is_alone
    ends &= is_word | (codes[at] != ord("."))
    places = at[np.where(is_wide, ends_wide, ends)]
    rows = np.searchsorted(texts.starts, places, side="right") - 1
    numbers: npt.NDArray[np.int64] = 1 + np.bincount(rows, minlength=len(texts))
    return numbers


def near_hashes(block: Block, marks: Sequence[str] = ()) -> npt.NDArray[np.int64]:
    """Return a hash of each pair's normal form, and of its languages if given."""
    source, target = normal_hashes(block.source), normal_hashes(block.target)
    both = source * np.uint64(0x9E3779B97F4A7C15) + target
    both += np.uint64(xxh3_64_intdigest("\0".join(marks).encode()))
    hashes: npt.NDArray[np.int64] = both.view(np.int64)
    return hashes


def _rows_with(block: Block, *needles: str) -> list[int]:
    """Return the pairs that contain one of the strings on either side."""
    rows = [side.containing(*needles) for side in (block.source, block.target)]
    numbers: list[int] = np.unique(np.concatenate(rows)).tolist()
    return numbers


def _few_letters(texts: Texts) -> Failures:
    fails = _wordless(texts)
    rows = texts.containing("://", "www.", "@")
    others = Texts([URL.sub(" ", texts.texts[row]) for row in rows.tolist()])
    fails[rows] |= _wordless(others)
    return fails


def _wordless(texts: Texts) -> Failures:
    """Return whether letters, and digits by half, are under half of what is visible in a text."""
    num_visible = texts.count((texts.kinds & BLANK) == 0)
    num_halves = 2 * texts.count_kind(LETTER | MARK) + texts.count_kind(DIGIT)
    fails: Failures = (num_halves < num_visible) | (num_visible == 0)
    return fails


def _mojibake(texts: Texts) -> Failures:
    """Return the texts that are UTF-8 read as Latin-1 or CP1252, as Ã¤ for ä.

    Only a text that can be read back as a whole: `É»` alone is none.
    """
    is_lead = (texts.codes >= 0xC2) & (texts.codes <= 0xF4)
    may_follow = (texts.codes >= 0x80) & ((texts.codes <= 0xBF) | (texts.codes >= 0x152))
    places = np.flatnonzero(is_lead[:-1] & may_follow[1:])
    rows = np.unique(np.searchsorted(texts.starts, places, side="right") - 1)
    fails = np.zeros(len(texts), bool)
    fails[rows] = [_can_be_read_back(texts.texts[row]) for row in rows.tolist()]
    return fails


def _can_be_read_back(text: str) -> bool:
    text = LOST_BLANK.sub("\u00a0", text)
    for encoding in ("cp1252", "latin-1"):
        with suppress(UnicodeError):
            return bool(text.encode(encoding).decode("utf-8"))
    return False


def _markup(text: str) -> set[str]:
    """Return the different tags and entities of a text."""
    text = MOSES_QUOTE.sub("", text)
    tags = {f"<{name.lower()}" for name in TAG.findall(text)}
    return tags.union(ENTITY.findall(text))

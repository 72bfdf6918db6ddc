"""Properties of characters by code point, and the texts of a block as arrays of code points.

Checks of whole corpora count characters with these arrays instead of a loop per text. Knows no
check. Shapes: C characters of all texts, each text followed by a newline; T texts.
"""

import sys
import unicodedata
from collections.abc import Sequence
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

LAST_PLANES = 0x40000  # from here on there are no letters
LETTER, MARK, DIGIT, LOWER, BLANK, CLOSING, STOP, WIDE_STOP = (1 << bit for bit in range(8))
# Scripts of ISO 15924 by the first word of their characters' names in Unicode.
SCRIPTS = {
    "LATIN": "Latn", "GREEK": "Grek", "CYRILLIC": "Cyrl", "ARMENIAN": "Armn", "HEBREW": "Hebr",
    "ARABIC": "Arab", "SYRIAC": "Syrc", "THAANA": "Thaa", "NKO": "Nkoo", "DEVANAGARI": "Deva",
    "BENGALI": "Beng", "GURMUKHI": "Guru", "GUJARATI": "Gujr", "ORIYA": "Orya", "TAMIL": "Taml",
    "TELUGU": "Telu", "KANNADA": "Knda", "MALAYALAM": "Mlym", "SINHALA": "Sinh", "THAI": "Thai",
    "LAO": "Laoo", "TIBETAN": "Tibt", "MYANMAR": "Mymr", "GEORGIAN": "Geor", "HANGUL": "Hang",
    "ETHIOPIC": "Ethi", "CHEROKEE": "Cher", "CANADIAN": "Cans", "KHMER": "Khmr",
    "MONGOLIAN": "Mong", "HIRAGANA": "Hira", "KATAKANA": "Kana", "BOPOMOFO": "Bopo", "CJK": "Hani",
    "TIFINAGH": "Tfng", "YI": "Yiii", "JAVANESE": "Java", "BALINESE": "Bali", "SUNDANESE": "Sund",
    "ADLAM": "Adlm", "OL": "Olck", "MEETEI": "Mtei", "COPTIC": "Copt",
}  # fmt: skip
SCRIPT_NUMBERS = {script: number for number, script in enumerate(SCRIPTS.values(), start=1)}
# Large blocks of one script: first and last code point.
BLOCKS = ((0x3400, 0x9FFF, "Hani"), (0xAC00, 0xD7A3, "Hang"), (0x20000, 0x323AF, "Hani"))
CLOSING_MARKS = "'\"’”»›)]}」』）】〉》"
STOPS = ".!?…।॥؟۔։።"  # ends of sentences before a blank
WIDE_STOPS = "。！？．"  # ends of sentences without a blank


class Texts:
    """The texts of one side of a block as arrays. The texts contain no newline."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.joined = "".join([text + "\n" for text in texts])
        self.codes = code_points(self.joined)
        ends = np.flatnonzero(self.codes == ord("\n")) + 1
        self.starts = np.concatenate([[0], ends])[:-1]

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def kinds(self) -> npt.NDArray[np.uint8]:
        """The kinds of the characters, as bits (C,)."""
        return kinds()[self.codes]

    def count(self, is_counted: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Return how many of the given characters (C,) each text has, as (T,)."""
        if not len(self.texts):
            return np.zeros(0, np.int64)
        return np.add.reduceat(is_counted, self.starts, dtype=np.int64)

    def count_kind(self, bits: int) -> npt.NDArray[np.int64]:
        """Return how many characters of these kinds each text has, as (T,)."""
        return self.count((self.kinds & bits) != 0)

    def containing(self, *needles: str) -> npt.NDArray[np.int64]:
        """Return the numbers of the texts that contain any of the strings, in order."""
        places: list[int] = []
        for needle in needles:
            place = -1
            while (place := self.joined.find(needle, place + 1)) >= 0:
                places.append(place)
        return np.unique(np.searchsorted(self.starts, places, side="right") - 1)


def code_points(text: str) -> npt.NDArray[np.uint32]:
    """Return the code points of a text; those of the last planes all become one."""
    order = f"utf-32-{'le' if sys.byteorder == 'little' else 'be'}"
    codes = np.frombuffer(text.encode(order, "surrogatepass"), np.uint32)
    return np.minimum(codes, LAST_PLANES)


@cache
def kinds() -> npt.NDArray[np.uint8]:
    """Return the kinds of every code point, as bits: a letter, a mark, a digit and so on."""
    bits_of = dict.fromkeys(("Lu", "Lt", "Lm", "Lo"), LETTER)
    bits_of |= dict.fromkeys(("Mn", "Mc", "Me"), MARK) | dict.fromkeys(("Nd", "Nl", "No"), DIGIT)
    bits_of |= {"Ll": LETTER | LOWER, "Zs": BLANK, "Zl": BLANK, "Zp": BLANK}
    table = np.zeros(LAST_PLANES + 1, np.uint8)
    table[:-1] = [bits_of.get(unicodedata.category(chr(code)), 0) for code in range(LAST_PLANES)]
    table[ord("\n")] |= BLANK
    for marks, bit in ((CLOSING_MARKS, CLOSING), (STOPS, STOP), (WIDE_STOPS, WIDE_STOP)):
        table[[ord(mark) for mark in marks]] |= bit
    return table


@cache
def script_numbers() -> npt.NDArray[np.uint8]:
    """Return the script number of every code point: 0 unless it is a letter of a known script."""
    table, is_open = np.zeros(LAST_PLANES + 1, np.uint8), (kinds() & LETTER) != 0
    for first_code, last_code, script in BLOCKS:
        table[first_code : last_code + 1] = SCRIPT_NUMBERS[script]
        is_open[first_code : last_code + 1] = False
    for code in np.flatnonzero(is_open).tolist():
        words = unicodedata.name(chr(code), "").split(maxsplit=2)
        first = words[1] if words[:1] in (["FULLWIDTH"], ["HALFWIDTH"]) else "".join(words[:1])
        table[code] = SCRIPT_NUMBERS.get(SCRIPTS.get(first, ""), 0)
    return table


@cache
def letters_of(scripts: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Return for every code point whether it is a letter of these scripts."""
    return np.isin(script_numbers(), [SCRIPT_NUMBERS[script] for script in scripts])


@cache
def folded() -> npt.NDArray[np.uint32]:
    """Return for every code point what the normal form makes of it: a space for most.

    0 stands for a character that becomes several, and for those of the last planes.
    """
    table = np.full(LAST_PLANES + 1, ord(" "), np.uint32)
    table[LAST_PLANES] = 0  # one of many: marks are among them
    is_kept = (kinds() & (LETTER | MARK | DIGIT)) != 0
    for code in np.flatnonzero(is_kept).tolist():
        lower = chr(code).casefold()
        table[code] = ord(lower) if len(lower) == 1 else 0
    return table

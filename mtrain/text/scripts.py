"""Scripts of ISO 15924: those in which a language is written, and those of a text's letters."""

import re
from collections import Counter
from functools import cache

import numpy as np

from mtrain.text.characters import SCRIPT_NUMBERS, code_points, script_numbers
from mtrain.text.languages import HAN_SCRIPTS, UNSPACED_SCRIPTS, find_language

MIN_SCRIPT_LETTERS = 10  # a text with fewer may be a name
# Languages that are written in more scripts than CLDR's first one.
OTHER_SCRIPTS = {
    "az": "Cyrl Arab", "bs": "Cyrl", "ha": "Arab", "kk": "Latn Arab", "ks": "Deva", "ku": "Arab",
    "ky": "Latn Arab", "mn": "Mong", "ms": "Arab", "pa": "Arab", "ro": "Cyrl", "sa": "Latn",
    "sd": "Deva", "sh": "Latn Cyrl", "sr": "Latn", "tg": "Latn Arab", "tk": "Cyrl Arab",
    "tt": "Latn", "ug": "Cyrl Latn", "uz": "Cyrl Arab",
}  # fmt: skip
LAST_LATIN = "\u024f"  # up to it all letters are Latin, apart from these
LATIN_SYMBOLS = "\u00aa\u00b5\u00ba"
MIXED_SCRIPTS = {"Jpan": "Hani Hira Kana", "Hrkt": "Hira Kana", "Kore": "Hang Hani"}
SCRIPT_NAMES = {number: script for script, number in SCRIPT_NUMBERS.items()}


@cache
def scripts_of(language: str) -> tuple[str, ...]:
    """Return the scripts in which a language is written; none if one of them is unknown here."""
    found = find_language(language)
    script = "Hani Bopo" if found.script in HAN_SCRIPTS else found.script
    scripts = MIXED_SCRIPTS.get(script, script).split()
    if not re.search(r"[-_][A-Za-z]{4}(?![A-Za-z0-9])", language):  # the code names none
        scripts += OTHER_SCRIPTS.get(found.base, "").split()
    return tuple(scripts) if scripts and SCRIPT_NUMBERS.keys() >= set(scripts) else ()


def count_letters(text: str) -> Counter[str]:
    """Return how many letters of each known script a text has."""
    if max(text, default="") <= LAST_LATIN:  # spares the table of all code points
        letters = sum(map(str.isalpha, text)) - sum(map(text.count, LATIN_SYMBOLS))
        return Counter({"Latn": letters} if letters else {})
    counts = np.bincount(script_numbers()[code_points(text)], minlength=1).tolist()
    return Counter({SCRIPT_NAMES[number]: count for number, count in enumerate(counts)
                    if number and count})  # fmt: skip


def is_spaced(text: str) -> bool:
    """Return whether most letters of a text are of scripts with spaces between words."""
    letters = count_letters(text)
    num_unspaced = sum(letters[script] for script in UNSPACED_SCRIPTS)
    return 2 * num_unspaced <= letters.total()

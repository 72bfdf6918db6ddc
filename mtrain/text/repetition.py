"""Phrases that a text repeats in a row, as a model that has fallen into a loop does."""

import re

from mtrain.text.normal import normalise
from mtrain.text.scripts import is_spaced

TIMES = 3  # in a row
LONGEST_PHRASE = 4  # words
# In a script without spaces: a phrase of 2 to 20 characters TIMES in a row, or one character six.
CHARACTERS = re.compile(r"(.{2,20}?)\1{2,}")
# In any script: up to four characters ten times in a row, as in hahahahaha... or ........
RUN = re.compile(r"(\S{1,4}?)\1{9,}")


def repeats_itself(text: str) -> bool:
    """Return whether a phrase of a few words stands three times in a row.

    Case, punctuation and digits do not count. Where spaces do not separate words, characters do.
    """
    if any(not match[1].isdigit() for match in RUN.finditer(text)):
        return True
    if is_spaced(text):
        return _repeats_words(normalise(text).split())
    joined = "".join(text.split())
    return any(any(map(str.isalpha, match[1])) for match in CHARACTERS.finditer(joined))


def _repeats_words(words: list[str]) -> bool:
    for size in range(1, LONGEST_PHRASE + 1):
        equal = 0  # words in a row that equal the one `size` before
        for word, earlier in zip(words[size:], words[:-size], strict=True):
            equal = equal + 1 if word == earlier else 0
            if equal == (TIMES - 1) * size and not earlier.isdigit():
                return True
    return False

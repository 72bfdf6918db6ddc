"""The normal form of a text, which ignores case, punctuation and spacing. No files, no tokens.

Two texts with the same normal form count as the same: for near duplicates, and for the choice of
held-out sources.
"""

import unicodedata
from functools import cache

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from mtrain.text.characters import Texts, folded

SPACE = ord(" ")


def normalise(text: str) -> str:
    """Return a text as NFKC, casefolded, with only letters, marks and digits, and single spaces.

    Every other character counts as a space. If nothing is left, returns the stripped text itself.
    """
    text_folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(text_folded.translate(_spaces()).split()) or text.strip()


def normal_hashes(texts: Texts) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each text's normal form, the same in every process.

    Folds all texts at once, as far as a table by code point can; the others go through `normalise`.
    """
    originals = texts.texts
    if "ß" in texts.joined:  # the frequent one of those that become several characters
        texts = Texts([text.replace("ß", "ss") for text in originals])
    codes = np.empty(len(texts.codes) + 1, "<u4")
    codes[0], codes[1:] = SPACE, folded()[texts.codes]  # with a space before each text
    is_word = codes != SPACE
    is_kept = is_word.copy()
    is_kept[:-1] |= is_word[1:]  # the space before a word
    form = memoryview(codes[is_kept].tobytes())
    lengths = texts.count(is_kept[:-1]) * codes.itemsize
    ends = np.cumsum(lengths)
    spans = zip((ends - lengths).tolist(), ends.tolist(), strict=True)
    hashes = np.fromiter(
        (xxh3_64_intdigest(form[start:end]) for start, end in spans), np.uint64, len(texts)
    )
    is_hard = texts.count(codes[1:] == 0) > 0
    if not unicodedata.is_normalized("NFKC", texts.joined):
        is_hard |= np.array([not unicodedata.is_normalized("NFKC", text) for text in texts.texts])
    is_hard |= lengths == 0
    for row in np.flatnonzero(is_hard).tolist():
        normal = f" {normalise(originals[row])}"
        hashes[row] = xxh3_64_intdigest(normal.encode("utf-32-le", "surrogatepass"))
    return hashes


class _Spaces(dict[int, int]):
    """Maps a code point that is no letter, mark or digit to a space, and others to themselves."""

    def __missing__(self, code: int) -> int:
        is_kept = unicodedata.category(chr(code))[0] in "LMN"
        self[code] = code if is_kept else SPACE
        return self[code]


@cache
def _spaces() -> _Spaces:
    return _Spaces()

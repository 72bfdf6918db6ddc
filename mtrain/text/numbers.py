"""Numbers in a text and its translation: which agree, and which are lost.

Ignores what languages write differently: separators (1,000.5 and 1.000,5), spaces between groups
of three digits, leading zeros, digits of another script, and small numbers written as words.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

MAX_SPELLED_OUT = 12  # numbers up to it are often written as words
NUMBER = re.compile(r"\d+")
SEPARATOR = re.compile(r"(?<=\d)[.,:'’٫٬](?=\d)")
GROUP_SPACE = re.compile(r"(?<=\d) (?=\d{3}(?!\d))")


def numbers_agree(source: str, target: str) -> bool:
    """Return whether two texts have the same numbers.

    One may lack numbers up to `MAX_SPELLED_OUT`, unless the other lacks some as well.
    """
    return _some_readings(source, target, _agree)


def loses_number(source: str, target: str) -> bool:
    """Return whether the target lacks a number of the source.

    It may lack numbers up to `MAX_SPELLED_OUT`, unless it has others in their place.
    """
    return not _some_readings(source, target, _keeps)


def _some_readings(
    source: str, target: str, fit: Callable[[Counter[str], Counter[str]], bool]
) -> bool:
    """Return whether some reading of the source fits one of the target."""
    if NUMBER.findall(source) == NUMBER.findall(target):
        return True
    readings = list(map(_numbers, (source, target)))
    return any(fit(one, other) for one in readings[0] for other in readings[1])


def _numbers(text: str) -> list[Counter[str]]:
    """Return the numbers of a text: of separate digits, without separators, without spaces."""
    text = unicodedata.normalize("NFKC", text)
    joined = SEPARATOR.sub("", text)
    return [Counter(map(_plain, NUMBER.findall(form)))
            for form in dict.fromkeys((text, joined, GROUP_SPACE.sub("", joined)))]  # fmt: skip


def _plain(digits: str) -> str:
    """Return a number in ASCII digits without leading zeros."""
    if not digits.isascii():
        digits = "".join(str(unicodedata.digit(digit)) for digit in digits)
    return digits.lstrip("0")


def _agree(one: Counter[str], other: Counter[str]) -> bool:
    extra, missing = one - other, other - one
    return not (extra and missing) and _are_small([*extra, *missing])


def _keeps(one: Counter[str], other: Counter[str]) -> bool:
    missing, extra = one - other, other - one
    return not missing or (not extra and _are_small([*missing]))


def _are_small(numbers: Sequence[str]) -> bool:
    return all(len(number) <= 2 and int(number or 0) <= MAX_SPELLED_OUT for number in numbers)

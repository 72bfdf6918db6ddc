"""Health of translations: what is wrong with a line whatever its BLEU, and how often in a set.

Judges texts and a few facts of the search; knows no model, and no file but the report's format.
"""

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtrain.config.corpora import Languages
from mtrain.evaluation.lengths import lengths
from mtrain.text.languages import find_language
from mtrain.text.normal import normalise
from mtrain.text.numbers import loses_number
from mtrain.text.placeholders import lost_placeholders
from mtrain.text.repetition import repeats_itself
from mtrain.text.scripts import MIN_SCRIPT_LETTERS, count_letters, scripts_of

OK = "ok"
EMPTY = "empty"
SPLIT = "split"
CUT_OFF = "cut_off"
REPEATED = "repeated"
COPIED = "copied"
WRONG_SCRIPT = "wrong_script"
NUMBER_LOST = "number_lost"
PLACEHOLDER_LOST = "placeholder_lost"
INVALID_UTF8 = "invalid_utf8"
# In the order of a report.
STATUSES = (EMPTY, SPLIT, CUT_OFF, REPEATED, COPIED, WRONG_SCRIPT, NUMBER_LOST, PLACEHOLDER_LOST,
            INVALID_UTF8)  # fmt: skip
PROBLEMS = tuple(status for status in STATUSES if status != SPLIT)
NEED_SEARCH = (SPLIT, CUT_OFF)
NEED_SOURCE = (COPIED, NUMBER_LOST, PLACEHOLDER_LOST)
ANY = "any"  # a line with one problem or more

# A copied source may be a name unless it has so many letters, and so many in ordinary words.
MIN_COPIED_LETTERS, MIN_ORDINARY_LETTERS = 10, 5
ADDRESS = re.compile(r"\w[.@/]\w")
MAX_GREEK_SYMBOLS = 2  # letters such as β in a text of another script


@dataclass(frozen=True)
class Facts:
    """What is known of a line's translation beside its texts."""

    num_segments: int = 1
    is_cut_off: bool = False
    is_valid_text: bool = True  # the source was UTF-8


@dataclass(frozen=True)
class LineHealth:
    """What is wrong with the translation of one line."""

    found: frozenset[str]  # of STATUSES
    num_segments: int
    is_blank: bool  # source and output are empty: no problem
    # of the output, and of the reference or source that it is compared with
    length: int
    compared_length: int

    @property
    def has_problem(self) -> bool:
        """Whether anything is wrong."""
        return not self.found.isdisjoint(PROBLEMS)

    @property
    def statuses(self) -> list[str]:
        """Return what a report says: `split:3`, all problems, `empty` of a blank line, or `ok`."""
        told = [f"{SPLIT}:{self.num_segments}" if status == SPLIT else status
                for status in STATUSES if status in self.found]  # fmt: skip
        return told or [EMPTY if self.is_blank else OK]


@dataclass(frozen=True)
class Health:
    """How many lines of a set have which problem."""

    lines: int
    any: int  # lines with one problem or more
    length_ratio: float  # of the outputs, compared with references or sources
    counts: dict[str, int | None]  # by status; None where it cannot be judged
    first_lines: dict[str, int]  # the number of the first line with each status found, from 1

    def count(self, name: str) -> int | None:
        """Return how many lines have a status, or `any` problem."""
        return self.any if name == ANY else self.counts[name]


class HealthTally:
    """Counts line by line; `unknown` are the statuses that cannot be judged."""

    def __init__(self, unknown: Collection[str] = ()) -> None:
        self._counts: Counter[str] = Counter()
        self._first_lines: dict[str, int] = {}
        self._unknown = unknown
        self._lines = self._length = self._compared_length = 0

    def note(self, number: int, line: LineHealth) -> None:
        """Count a line and its number, from 1."""
        self._lines += 1
        self._length += line.length
        self._compared_length += line.compared_length
        for name in (*line.found, *[ANY] * line.has_problem):
            self._counts[name] += 1
            self._first_lines.setdefault(name, number)

    def notes(self) -> dict[str, Any]:
        """Return the counts so far as JSON values, for `add`."""
        return {"counts": dict(self._counts), "first_lines": self._first_lines,
                "sizes": [self._lines, self._length, self._compared_length]}  # fmt: skip

    def add(self, notes: Mapping[str, Any]) -> None:
        """Add the counts that `notes` returned for other lines, before or between these."""
        self._counts.update(notes["counts"])
        for name, number in notes["first_lines"].items():
            self._first_lines[name] = min(number, self._first_lines.get(name, number))
        lines, length, compared_length = notes["sizes"]
        self._lines += lines
        self._length += length
        self._compared_length += compared_length

    def health(self) -> Health:
        """Return the counts so far."""
        counts = {status: None if status in self._unknown else self._counts[status]
                  for status in STATUSES}  # fmt: skip
        ratio = self._length / max(1, self._compared_length)
        return Health(self._lines, self._counts[ANY], ratio, counts, dict(self._first_lines))


def health_of(
    judged: Sequence[LineHealth], rows: Iterable[int], unknown: Collection[str] = ()
) -> Health:
    """Return the health of the lines with the given indices; the first line has the number 1."""
    tally = HealthTally(unknown)
    for row in rows:
        tally.note(row + 1, judged[row])
    return tally.health()


def judge_line(
    source: str | None,
    output: str,
    languages: Languages,
    facts: Facts = Facts(),
    references: Sequence[str] = (),
) -> LineHealth:
    """Return the health of a line, given its source, references, or both.

    What a reference has as well is no problem: a number in words, a text that is rightly copied.
    """
    found = _problems(source, output, languages)
    for reference in references if found else ():
        found -= _problems(source, reference, languages)
    named = {SPLIT: facts.num_segments > 1, CUT_OFF: facts.is_cut_off,
             INVALID_UTF8: not facts.is_valid_text}  # fmt: skip
    found |= {name for name, holds in named.items() if holds}
    is_blank = not output.strip() and source is not None and not source.strip()
    others = references or [source or ""]
    compared = languages[1:] if references else languages
    are_spaced = all(find_language(language).is_spaced for language in compared)
    return LineHealth(frozenset(found), facts.num_segments, is_blank,
                      *lengths(output, others, are_spaced))  # fmt: skip


def report_line(number: int, line: LineHealth, score: float, num_tokens: int) -> str:
    """Return a line's health as one line of JSON; a score that is not finite is null."""
    fields = {"line": number, "status": line.statuses,
              "score": score if math.isfinite(score) else None, "tokens": num_tokens}  # fmt: skip
    return json.dumps(fields)


def _problems(source: str | None, output: str, languages: Languages) -> set[str]:
    """Return the problems of the texts; without a source, those that need none."""
    if not output.strip():
        return {EMPTY} if source is None or source.strip() else set()
    found = set()
    if repeats_itself(output) and not repeats_itself(source or ""):
        found.add(REPEATED)
    if _has_wrong_script(source or "", output, languages[1]):
        found.add(WRONG_SCRIPT)
    if source is None:
        return found
    if _is_copied(source, output, languages):
        found.add(COPIED)
    if loses_number(source, output):
        found.add(NUMBER_LOST)
    if lost_placeholders(source, output):
        found.add(PLACEHOLDER_LOST)
    return found


def _is_copied(source: str, output: str, languages: Languages) -> bool:
    """Return whether the output is the source, apart from case, punctuation and spacing.

    A source that is short, or mainly names, symbols or numbers, may be copied.
    """
    if normalise(source) != normalise(output):
        return False
    ordinary = sum(_num_letters(word) for word in source.split() if _is_ordinary(word))
    is_text = _num_letters(source) >= MIN_COPIED_LETTERS and ordinary >= MIN_ORDINARY_LETTERS
    return is_text and not _are_one_language(languages)


def _is_ordinary(word: str) -> bool:
    """Return whether a word does not begin with a capital, and is no address."""
    first = next(filter(str.isalpha, word), "")
    return not first.isupper() and not ADDRESS.search(word)


def _num_letters(text: str) -> int:
    """Return how many letters and vowel signs a text has; a wide one, as of Chinese, is two."""
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1
               for each in text if unicodedata.category(each)[0] in "LM")  # fmt: skip


def _are_one_language(languages: Languages) -> bool:
    one, other = languages
    return one == other or (one != "" and find_language(one).base == find_language(other).base)


def _has_wrong_script(source: str, output: str, target_lang: str) -> bool:
    """Return whether the output has letters that are not of the target language.

    Letters of the source's scripts, Latin ones and a few Greek ones may stand among others, as
    names and symbols. They may be most of a text only if the source has all their words.
    """
    own, letters = scripts_of(target_lang), count_letters(output)
    foreign = {script: count for script, count in letters.items() if script not in own}
    if not own or not foreign:
        return False
    in_source = count_letters(source)
    tolerated = {"Latn": math.inf, "Grek": MAX_GREEK_SYMBOLS}
    if any(count > tolerated.get(script, 0) for script, count in foreign.items()
           if not in_source[script]):  # fmt: skip
        return True
    if sum(foreign.values()) < max(MIN_SCRIPT_LETTERS, letters.total() / 2):
        return False
    known = normalise(source)
    new = count_letters(" ".join(word for word in normalise(output).split() if word not in known))
    return any(new[script] for script in foreign)

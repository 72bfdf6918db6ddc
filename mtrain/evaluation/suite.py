"""The outcome of a behaviour suite: which cases fail, and why. Knows texts, no model."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mtrain.config.corpora import Languages
from mtrain.config.suite import Case, Suite
from mtrain.evaluation.health import (
    CUT_OFF,
    EMPTY,
    REPEATED,
    WRONG_SCRIPT,
    Facts,
    judge_line,
)
from mtrain.evaluation.lengths import length_of
from mtrain.evaluation.limits import Limit
from mtrain.text.languages import find_language

SUITE = "suite"  # its name in --fail-on
ALWAYS_WRONG = (EMPTY, CUT_OFF, REPEATED, WRONG_SCRIPT)  # whatever a case expects
NO_FAILURE = Limit(SUITE, 0, is_share=False)


@dataclass(frozen=True)
class FailedCase:
    """A case that failed, with the reasons."""

    group: str
    where: str  # file and line
    source: str
    output: str
    reasons: list[str]


@dataclass(frozen=True)
class Group:
    """How many cases of a group passed."""

    name: str
    passed: int
    total: int


@dataclass(frozen=True)
class SuiteResult:
    """The outcome of a suite."""

    path: str
    direction: str
    passed: int
    total: int
    groups: list[Group]
    failed: list[FailedCase]

    def failures(self, limits: Sequence[Limit]) -> list[str]:
        """Return a message for each limit of failed cases that is exceeded; by default none may."""
        num_failed = self.total - self.passed
        return [
            f"{self.path}: {num_failed} of {self.total} cases failed, more than {limit} allows"
            for limit in limits or [NO_FAILURE]
            if limit.is_exceeded(num_failed, self.total)
        ]


def judge_suite(suite: Suite, outputs: Sequence[tuple[str, Facts]]) -> SuiteResult:
    """Return the outcome, given the translation of each case in order."""
    failed = []
    for case, (output, facts) in zip(suite.cases, outputs, strict=True):
        if reasons := _reasons(case, output, facts, suite.languages):
            failed.append(FailedCase(case.group, case.where, case.expected.source, output, reasons))
    names = dict.fromkeys(case.group for case in suite.cases)
    groups = [_group(name, suite.cases, failed) for name in names]
    num_cases = len(suite.cases)
    return SuiteResult(str(suite.path), "-".join(suite.languages), num_cases - len(failed),
                       num_cases, groups, failed)  # fmt: skip


def _group(name: str, cases: Sequence[Case], failed: Sequence[FailedCase]) -> Group:
    total = sum(case.group == name for case in cases)
    num_failed = sum(case.group == name for case in failed)
    return Group(name, total - num_failed, total)


def _reasons(case: Case, output: str, facts: Facts, languages: Languages) -> list[str]:
    expected = case.expected
    found = judge_line(expected.source, output, languages, facts).found
    reasons = [name for name in ALWAYS_WRONG if name in found]
    reasons += [f"lacks '{kept}'" for kept in expected.keeps if not _contains(output, kept)]
    if expected.equals is not None and output != expected.equals:
        reasons.append(f"is not '{expected.equals}'")
    if expected.matches is not None and not re.search(expected.matches, output):
        reasons.append(f"does not match '{expected.matches}'")
    if expected.max_words is not None:
        is_spaced = find_language(languages[1]).is_spaced
        length = length_of(output, is_spaced)
        if length > expected.max_words:
            unit = "words" if is_spaced else "characters"
            reasons.append(f"has {length} {unit}, more than {expected.max_words}")
    return reasons


def _contains(output: str, kept: str) -> bool:
    """Return whether a text is in the output, and a number at its ends is not part of another."""
    before = r"(?<!\d)(?<!\d[.,])" if kept[0].isdigit() else ""
    after = r"(?![.,]?\d)" if kept[-1].isdigit() else ""
    return re.search(before + re.escape(kept) + after, output) is not None

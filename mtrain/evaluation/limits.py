"""Limits of `--fail-on`: how many lines of a set may have a problem, as NAME=NUMBER or NAME=N%."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtrain.errors import UserError, nearest_name
from mtrain.evaluation.health import ANY, STATUSES, Health

HEALTH_NAMES = (*STATUSES, ANY)
EXAMPLE = "for example --fail-on repeated=1% --fail-on empty=0"


@dataclass(frozen=True)
class Limit:
    """The most that may have a problem: a number, or a share in percent."""

    name: str
    most: float
    is_share: bool

    def __str__(self) -> str:
        return f"--fail-on {self.name}={self.most:.15g}{'%' if self.is_share else ''}"

    def is_exceeded(self, count: int, total: int) -> bool:
        """Return whether `count` of `total` are too many."""
        return count * 100 > self.most * total if self.is_share else count > self.most


def parse_limits(texts: Sequence[str], known: Sequence[str] = HEALTH_NAMES) -> list[Limit]:
    """Return the limits that `--fail-on` names.

    Raises UserError, with all problems, for names that are not known and for bad numbers.
    """
    limits, problems = [], []
    for text in texts:
        name, equals, number = (part.strip() for part in text.partition("="))
        if name not in known:
            meant = nearest_name(name, known)
            problems.append(f"--fail-on {text}: there is no {name or 'name'}{meant}")
        elif not equals or not re.fullmatch(r"[0-9]+|[0-9]+(\.[0-9]+)?\s*%", number):
            problems.append(
                f"--fail-on {text}: {number or 'nothing'} is neither a whole number nor a "
                "percentage"
            )
        elif number.endswith("%") and float(number[:-1]) > 100:
            problems.append(f"--fail-on {text}: {number} is over 100%")
        else:
            limits.append(Limit(name, float(number.rstrip("% ")), number.endswith("%")))
    if problems:
        raise UserError("\n".join(problems), f"names are {', '.join(known)}; {EXAMPLE}")
    return limits


def check_known(limits: Sequence[Limit], unknown: Mapping[str, str]) -> None:
    """Raise UserError for limits of what cannot be judged; `unknown` has the reason by name."""
    problems = [f"{limit}: {unknown[limit.name]}" for limit in limits if limit.name in unknown]
    if problems:
        raise UserError("\n".join(problems), "leave it out, or give what it needs")


def exceeded_limits(limits: Sequence[Limit], health: Health) -> list[str]:
    """Return a message for each limit that a set exceeds."""
    messages = []
    for limit in limits:
        count = health.count(limit.name)
        if count is not None and limit.is_exceeded(count, health.lines):
            messages.append(
                f"{describe_count(limit.name, count, health)} of {health.lines:,} lines, more than "
                f"{limit} allows"
            )
    return messages


def describe_count(name: str, count: int, health: Health) -> str:
    """Return a count in words: repeated 3 (5.0 %, first in line 17)."""
    share = count / max(1, health.lines)
    return f"{name} {count:,} ({share:.1%}, first in line {health.first_lines[name]:,})"

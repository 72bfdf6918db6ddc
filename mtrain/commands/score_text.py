"""What `mtrain score` prints: tables or JSON."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mtrain.evaluation.health import Health
from mtrain.evaluation.limits import describe_count
from mtrain.evaluation.scored import Scored, ScoredSet
from mtrain.evaluation.suite import SuiteResult
from mtrain.evaluation.worse import SENTENCE_METRIC, WorseSentence
from mtrain.text.lines import one_line

WORSE_TITLE = f"sentences that got worse most, by {SENTENCE_METRIC}"
# Control characters and what XML 1.0 does not allow.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """Return a text on one line, its control characters replaced by U+FFFD."""
    return UNPRINTABLE.sub("\ufffd", one_line(text).replace("\t", " "))


def as_json(scored: Scored) -> str:
    """Return everything as one JSON object."""
    answer: dict[str, Any] = {"sets": [entry.as_dict() for entry in scored.sets]}
    if means := _means(scored.sets):
        answer["mean"] = means
    if scored.suite:
        answer["suite"] = asdict(scored.suite)
    return json.dumps(answer, indent=1, ensure_ascii=False)


def _means(scored: Sequence[ScoredSet]) -> dict[str, float]:
    """Return the mean of each metric over the sets, if they have several directions."""
    if len({entry.direction for entry in scored}) < 2:
        return {}
    columns = zip(*(entry.scores for entry in scored), strict=True)
    return {column[0].name: sum(score.value for score in column) / len(column)
            for column in columns}  # fmt: skip


def as_text(scored: Scored) -> str:
    """Return everything as tables."""
    lines, means = [], _means(scored.sets)
    for entry in scored.sets:
        direction = f", {entry.direction}" if means else ""
        lines.append(f"{entry.name}{direction}, {entry.sentences:,} sentences")
        width = max(6, *(len(figure.name) + 1 for figure in entry.scores))
        for figure in entry.scores:
            lines.append(f"  {figure.name:<{width}}{figure.value:>7.2f}   {figure.signature}")
        if entry.health:
            lines.append(f"  {'health':<{width}}  {health_line(entry.health)}")
        if entry.by_length:
            lines.append("  source words  sentences    BLEU    chrF  length ratio  problems")
        for bucket in entry.by_length:
            bounds = f"{bucket.shortest}-{bucket.longest}" if bucket.longest else (
                f"over {bucket.shortest - 1}")  # fmt: skip
            row = (f"  {bounds:>12}{bucket.sentences:>11}{bucket.bleu:>8.2f}{bucket.chrf:>8.2f}"
                   f"{bucket.length_ratio:>14.3f}  {_problems(bucket.health)}")  # fmt: skip
            lines.append(row.rstrip())
        for paired in entry.comparison:
            told = f"{paired.value:>7.2f} against {paired.baseline:.2f} (p = {paired.p_value:.4f})"
            lines.append(f"  {paired.name:<{width}}{told}   {paired.signature}")
        if entry.worse:
            lines.append(f"  {WORSE_TITLE}")
            lines += [f"  {line}" for line in worse_lines(entry.worse)]
    if means:
        told = ", ".join(f"{name} {value:.2f}" for name, value in means.items())
        lines.append(f"mean of {len(scored.sets)} sets: {told}")
    if scored.suite:
        lines += suite_lines(scored.suite)
    return "\n".join(lines)


def health_line(health: Health) -> str:
    """Return the health of a set: its length ratio and the problems that it has."""
    told = [f"length ratio {health.length_ratio:.3f}"]
    found = [describe_count(name, count, health)
             for name, count in health.counts.items() if count]  # fmt: skip
    told += found or ["no problems"]
    if unknown := [name for name, count in health.counts.items() if count is None]:
        told.append(f"not judged: {', '.join(unknown)}")
    return "; ".join(told)


def _problems(health: Health) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in health.counts.items() if count)


def suite_lines(suite: SuiteResult) -> list[str]:
    """Return a table of the groups of a suite, then its failed cases."""
    lines = [f"{suite.path}, {suite.direction}: {suite.passed} of {suite.total} cases passed"]
    width = max(len(group.name) for group in suite.groups)
    for group in suite.groups:
        lines.append(f"  {group.name:<{width}}  {group.passed:>3} of {group.total}")
    return lines + [f"  {line}" for line in failed_lines(suite)]


def failed_lines(suite: SuiteResult) -> list[str]:
    """Return a few lines on each failed case: where, its texts, and what is wrong."""
    lines = []
    for case in suite.failed:
        lines.append(f"{case.where}: {case.group} failed: {printable('; '.join(case.reasons))}")
        lines.append(f"  source  {printable(case.source)}")
        lines.append(f"  output  {printable(case.output)}".rstrip())
    return lines


def worse_lines(sentences: Sequence[WorseSentence]) -> list[str]:
    """Return a few lines on each sentence: where, how much worse, and its texts."""
    lines = []
    for each in sentences:
        lines.append(f"line {each.line}: {each.score_before:.2f} before, {each.score_now:.2f} now")
        texts = {"source": each.source, "reference": each.reference, "before": each.before,
                 "now": each.now}  # fmt: skip
        lines += [f"  {name:<10}{printable(text)}".rstrip()
                  for name, text in texts.items() if text is not None]  # fmt: skip
    return lines

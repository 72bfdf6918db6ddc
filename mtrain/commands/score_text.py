"""What `mtrain score` prints: tables or JSON."""

import json
import re
from collections.abc import Sequence
from typing import Any

from mtrain.evaluation.scored import ScoredSet
from mtrain.evaluation.worse import SENTENCE_METRIC, WorseSentence
from mtrain.text.lines import one_line

WORSE_TITLE = f"sentences that got worse most, by {SENTENCE_METRIC}"
# Control characters and what XML 1.0 does not allow.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def printable(text: str) -> str:
    """Return a text on one line, its control characters replaced by U+FFFD."""
    return UNPRINTABLE.sub("\ufffd", one_line(text).replace("\t", " "))


def as_json(scored: Sequence[ScoredSet]) -> str:
    """Return everything as one JSON object."""
    answer: dict[str, Any] = {"sets": [entry.as_dict() for entry in scored]}
    if means := _means(scored):
        answer["mean"] = means
    return json.dumps(answer, indent=1, ensure_ascii=False)


def _means(scored: Sequence[ScoredSet]) -> dict[str, float]:
    """Return the mean of each metric over the sets, if they have several directions."""
    if len({entry.direction for entry in scored}) < 2:
        return {}
    columns = zip(*(entry.scores for entry in scored), strict=True)
    return {column[0].name: sum(score.value for score in column) / len(column)
            for column in columns}  # fmt: skip


def as_text(scored: Sequence[ScoredSet]) -> str:
    """Return everything as tables."""
    lines, means = [], _means(scored)
    for entry in scored:
        direction = f", {entry.direction}" if means else ""
        lines.append(f"{entry.name}{direction}, {entry.sentences:,} sentences")
        width = max(6, *(len(figure.name) + 1 for figure in entry.scores))
        for figure in entry.scores:
            lines.append(f"  {figure.name:<{width}}{figure.value:>7.2f}   {figure.signature}")
        if entry.by_length:
            lines.append("  source words  sentences    BLEU    chrF  length ratio")
        for bucket in entry.by_length:
            bounds = f"{bucket.shortest}-{bucket.longest}" if bucket.longest else (
                f"over {bucket.shortest - 1}")  # fmt: skip
            lines.append(f"  {bounds:>12}{bucket.sentences:>11}{bucket.bleu:>8.2f}"
                         f"{bucket.chrf:>8.2f}{bucket.length_ratio:>14.3f}")  # fmt: skip
        for paired in entry.comparison:
            lines.append(f"  {paired.name:<6}{paired.value:>7.2f} against {paired.baseline:.2f} "
                         f"(p = {paired.p_value:.4f})   {paired.signature}")  # fmt: skip
        if entry.worse:
            lines.append(f"  {WORSE_TITLE}")
            lines += [f"  {line}" for line in worse_lines(entry.worse)]
    if means:
        told = ", ".join(f"{name} {value:.2f}" for name, value in means.items())
        lines.append(f"mean of {len(scored)} sets: {told}")
    return "\n".join(lines)


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

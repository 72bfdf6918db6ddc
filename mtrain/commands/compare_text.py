"""What `mtrain compare` prints: tables or JSON."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from mtrain.commands.compare import Compared, ComparedSet, CurvePoint
from mtrain.commands.score_text import printable
from mtrain.config.compare import Differences
from mtrain.evaluation.worse import SENTENCE_METRIC, WorseSentence

MOST_POINTS = 12  # of a curve
LONGEST_VALUE = 60  # characters
SIGNIFICANT = 0.05
TITLES = {"bleu": "BLEU", "chrf": "chrF", "accuracy": "accuracy", "loss": "loss"}


def as_json(compared: Compared) -> str:
    """Return everything as one JSON object."""
    answer: dict[str, Any] = asdict(compared)
    for name in ("configuration", "data"):
        answer[name] = {key: list(values) for key, values in answer[name].items()}
    return json.dumps(answer, indent=1, ensure_ascii=False)


def as_text(compared: Compared) -> str:
    """Return everything as tables; A is the baseline."""
    lines = [f"A  {compared.runs[0]}", f"B  {compared.runs[1]}"]
    for title, found in (("configuration", compared.configuration), ("data", compared.data)):
        lines += ["", title, *_differences(found)]
    lines += ["", *_curve(compared), "", *_courses(compared)]
    for entry in compared.sets:
        lines += ["", *_set(entry)]
    if compared.not_compared:
        lines += ["", *(f"not compared: {reason}" for reason in compared.not_compared)]
    return "\n".join(lines)


def _differences(found: Differences) -> Iterator[str]:
    if not found:
        yield "  the same"
    for key, values in found.items():
        told = [_value(value) for value in values]
        yield f"  {printable(key)}: {told[0]} | {told[1]}"


def _value(value: object) -> str:
    text = "-" if value is None else printable(str(value))
    half = LONGEST_VALUE // 2
    return text if len(text) <= LONGEST_VALUE else f"{text[:half]}...{text[-half:]}"


def _curve(compared: Compared) -> list[str]:
    names = ["loss"] if compared.metric == "loss" else [compared.metric, "loss"]
    columns = [f"dev {TITLES[name]} {run}" for name in names for run in "AB"]
    lines = [f"{'update':>10}" + "".join(f"{column:>13}" for column in columns)]
    for point in _spread(compared.curve):
        figures = [*(point.score if compared.metric != "loss" else ()), *point.loss]
        decimals = [2, 2, 3, 3][-len(figures) :]
        lines.append(
            f"{point.update:>10,}"
            + "".join(
                f"{'-' if value is None else format(value, f'.{digits}f'):>13}"
                for value, digits in zip(figures, decimals, strict=True)
            )
        )
    return lines if compared.curve else ["no validation in the log of either run"]


def _spread(points: Sequence[CurvePoint]) -> list[CurvePoint]:
    """Return at most MOST_POINTS points, evenly spread, the last among them."""
    count = min(MOST_POINTS, len(points))
    return [points[(number + 1) * len(points) // count - 1] for number in range(count)]


def _courses(compared: Compared) -> list[str]:
    title = f"best dev {TITLES[compared.metric]}"
    width = max(14, len(title))
    digits = 3 if compared.metric == "loss" else 2
    rows: list[tuple[str, list[str]]] = [
        (title, [_told(each.best, f".{digits}f") for each in compared.courses]),
        ("at update", [_told(each.best_update, ",") for each in compared.courses]),
        ("updates", [_told(each.updates, ",") for each in compared.courses]),
        ("minutes", [_told(each.minutes, ".1f") for each in compared.courses]),
        ("target tokens", [_told(each.target_tokens, ",") for each in compared.courses]),
    ]
    return [f"{'':<{width}}{'A':>16}{'B':>16}"] + [
        f"{name:<{width}}{values[0]:>16}{values[1]:>16}" for name, values in rows
    ]


def _told(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _set(entry: ComparedSet) -> Iterator[str]:
    yield f"{entry.name}, {entry.direction}, {entry.sentences:,} sentences"
    yield f"  {'':<6}{'A':>7}{'B':>8}{'B - A':>8}{'p':>9}"
    for score in entry.scores:
        gain = score.value - score.baseline
        said = "significant" if score.p_value <= SIGNIFICANT else "not significant"
        yield (
            f"  {score.name:<6}{score.baseline:>7.2f}{score.value:>8.2f}{gain:>+8.2f}"
            f"{score.p_value:>9.4f}   {said}   {score.signature}"
        )
    for word, sentences in (("worse", entry.worse), ("better", entry.better)):
        if sentences:
            yield f"  sentences that are {word} in B, by {SENTENCE_METRIC}"
            for each in sentences:
                yield from _sentence(each)
        else:
            yield f"  no sentence is {word} in B, by {SENTENCE_METRIC}"


def _sentence(each: WorseSentence) -> Iterator[str]:
    yield f"  line {each.line}: {each.score_before:.2f} in A, {each.score_now:.2f} in B"
    texts = {"source": each.source, "reference": each.reference, "A": each.before, "B": each.now}
    yield from (f"    {name:<10}{printable(text or '')}".rstrip() for name, text in texts.items())

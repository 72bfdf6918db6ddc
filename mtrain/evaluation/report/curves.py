"""The learning curves of a run, from the events of its log."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mtrain.evaluation.diagnosis import describe_curve
from mtrain.evaluation.report.chart import Mark, Point, Series, line_chart
from mtrain.evaluation.report.markup import Html, details, element, prose, section, table

Event = Mapping[str, Any]

SCORES = {"bleu": "BLEU", "chrf": "chrF", "accuracy": "masked accuracy"}


def curves_section(events: Sequence[Event], best_update: int | None) -> Html:
    """Return the charts, the best checkpoint marked, and the validations as a table."""
    valid = [event for event in events if event["kind"] == "valid"]
    if not events:
        return section(
            "Learning curves",
            prose("metrics.jsonl, the log of the training, is not in the run folder: no curves."),
        )
    steering = [event for event in valid if not event.get("averaged")]
    train = [event for event in events if event["kind"] == "train"]
    marks = [Mark(event["update"], f"stage {event['stage']}") for event in events
             if event["kind"] == "stage"]  # fmt: skip
    if best_update is not None:
        marks.append(Mark(best_update, "best", is_main=True))
    lines = {
        "Loss per token": _losses(train, steering),
        **{f"Dev {title}": _scores(steering, name) for name, title in SCORES.items()},
        "Learning rate": [Series("rate", _points(train, "learning_rate"))],
    }
    last = max(event["update"] for event in events)
    charts = [line_chart(title, series, last, marks) for title, series in lines.items()]
    advice = describe_curve(events)
    return section(
        "Learning curves",
        element("div", *filter(None, charts), class_="charts"),
        prose(
            "The train loss is that of the objective, label smoothing and dropout included; the "
            "dev loss has neither: compare their shapes, not their heights."
        ),
        prose(f"{advice[0].upper()}{advice[1:]}.") if advice else Html(),
        details("All validations as a table", validation_table(valid)),
    )


def _losses(train: Sequence[Event], valid: Sequence[Event]) -> list[Series]:
    series = [Series("train", _points(train, "loss")), Series("dev", _points(valid, "loss"))]
    return series + [Series(f"watch {name}", _points(found, "loss"))
                     for name, found in _watched(valid).items()]  # fmt: skip


def _scores(valid: Sequence[Event], name: str) -> list[Series]:
    """Return the lines of a score: the dev score, each direction's, each watch set's."""
    series = [Series("dev", _points(valid, name))]
    directions = dict.fromkeys(key for event in valid for key in event.get("directions", {}))
    if directions:
        series[0] = Series("mean of all", series[0].points)
    for direction in directions:
        found = [{"update": event["update"], **event.get("directions", {}).get(direction, {})}
                 for event in valid]  # fmt: skip
        series.append(Series(direction, _points(found, name)))
    series += [Series(f"watch {watch}", _points(found, name))
               for watch, found in _watched(valid).items()]  # fmt: skip
    return series


def _watched(valid: Sequence[Event]) -> dict[str, list[Event]]:
    names = dict.fromkeys(name for event in valid for name in event.get("watch", {}))
    return {
        name: [{"update": event["update"], **event["watch"][name]} for event in valid
               if name in event.get("watch", {})]
        for name in names
    }  # fmt: skip


def _points(events: Iterable[Event], figure: str) -> list[Point]:
    """Return a figure by update, the last of each update, without null values."""
    found = {}
    for event in events:
        value = event.get(figure)
        if isinstance(value, int | float) and math.isfinite(value):
            found[event["update"]] = value
    return sorted((float(update), float(value)) for update, value in found.items())


def validation_table(valid: Sequence[Event]) -> Html:
    """Return the validations, a row each."""
    names = {"loss": "dev loss", **SCORES}
    shown = [name for name in names if any(name in event for event in valid)]
    rows = []
    for event in valid:
        averaged = " (average of checkpoints)" if event.get("averaged") else ""
        figures = [event.get(name) for name in shown]
        rows.append([
            f"{event['update']:,}{averaged}",
            f"{event['minutes']:.1f}",
            f"{event['target_tokens']:,}" if "target_tokens" in event else "",
            *("" if value is None else f"{value:.3f}" if name == "loss" else f"{value:.2f}"
              for name, value in zip(shown, figures, strict=True)),
        ])  # fmt: skip
    return table(["update", "minutes", "tokens", *(names[name] for name in shown)], rows)

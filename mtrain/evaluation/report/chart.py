"""Line charts as inline SVG. Knows numbers and names, nothing of training.

Sizes are in units of the picture, whose width is WIDTH; the page scales it.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mtrain.evaluation.report.markup import Html, element, join

WIDTH, HEIGHT = 420.0, 230.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 12.0, 14.0, 34.0  # margins around the plot
MOST_POINTS = 300  # of a line; more cannot be seen
NUM_COLOURS = 8  # that the page defines
DIGITS = 4
DOTS = 40  # a line of up to so many points shows them

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """A line: its points from left to right."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Mark:
    """A vertical line with a label."""

    x: float
    label: str
    is_main: bool = False


@dataclass(frozen=True)
class Scale:
    """A linear map from a range of values to a range of units."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the place of a value."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def thin(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Return at most so many points: the means of runs of neighbours."""
    if len(points) <= most:
        return list(points)
    bounds = [number * len(points) // most for number in range(most + 1)]
    runs = [points[start:end] for start, end in pairwise(bounds)]
    return [(sum(x for x, _ in run) / len(run), sum(y for _, y in run) / len(run)) for run in runs]


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Return round numbers from `low` to `high`, about so many: steps of 1, 2 or 5 times 10^n."""
    rough = 0.7 * (high - low) / about  # so that no less than two fit in
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def tell(value: float) -> str:
    """Return a number to DIGITS significant digits, in few characters."""
    if value and not 1e-4 <= abs(value) < 1e6:
        return re.sub(r"\.?0*e([+-])0*", r"e\1", f"{value:.{DIGITS - 1}e}").replace("e+", "e")
    before = max(0, math.floor(math.log10(abs(value)))) + 1 if value else 1
    after = max(0, DIGITS - before) if abs(value) >= 1 else DIGITS + 2
    told = f"{value:,.{after}f}"
    return told.rstrip("0").rstrip(".") if "." in told else told


def line_chart(
    title: str, series: Sequence[Series], last_x: float, marks: Sequence[Mark] = ()
) -> Html:
    """Return a chart from 0 to `last_x`, with its title and, for several lines, their names.

    Lines without a point are left out; without any line, returns nothing.
    """
    shown = [line for line in series if line.points]
    if not shown:
        return Html()
    across, up = _scales(shown, last_x)
    parts = [*_grid(across, up), *(_mark(mark, across) for mark in marks)]
    parts += [_line(number, line, across, up) for number, line in enumerate(shown)]
    names = ", ".join(line.name for line in shown)
    picture = element(
        "svg", *parts, viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}", role="img",
        aria_label=f"{title} by update: {names}",
    )  # fmt: skip
    return element("figure", element("figcaption", title), _legend(shown), picture)


def _scales(series: Sequence[Series], last_x: float) -> tuple[Scale, Scale]:
    ys = [y for line in series for _, y in line.points]
    room = 0.05 * (max(ys) - min(ys)) or 0.1 * abs(max(ys)) or 1.0  # also around equal values
    return (
        Scale(0.0, max(last_x, 1.0), LEFT, WIDTH - RIGHT),
        Scale(min(ys) - room, max(ys) + room, HEIGHT - BOTTOM, TOP),
    )


def _grid(across: Scale, up: Scale) -> list[Html]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for value in ticks(up.low, up.high):
        y = f"{up(value):.1f}"
        parts.append(element("line", x1=LEFT, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(element("text", tell(value), x=LEFT - 6, y=y, class_="y"))
    for value in ticks(across.low, across.high):
        x = f"{across(value):.1f}"
        parts.append(element("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="axis"))
        parts.append(element("text", tell(value), x=x, y=bottom + 16, class_="x"))
    parts.append(element("line", x1=LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"))
    parts.append(element("text", "update", x=right, y=HEIGHT - 3, class_="name"))
    return parts


def _mark(mark: Mark, across: Scale) -> Html:
    x = across(mark.x)
    near_end = x > (LEFT + WIDTH - RIGHT) / 2
    line = element("line", x1=f"{x:.1f}", x2=f"{x:.1f}", y1=TOP, y2=HEIGHT - BOTTOM)
    label = element(
        "text", mark.label, x=f"{x + (-4 if near_end else 4):.1f}", y=TOP - 3,
        text_anchor="end" if near_end else "start",
    )  # fmt: skip
    return element("g", line, label, class_="best" if mark.is_main else "stage")


def _line(number: int, line: Series, across: Scale, up: Scale) -> Html:
    points = [(across(x), up(y), x, y) for x, y in thin(line.points)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in points)
    parts = [element("polyline", points=path)]
    if len(points) <= DOTS:
        parts += [
            element(
                "circle",
                element("title", f"update {tell(x)}: {line.name} {tell(y)}"),
                cx=f"{place:.1f}", cy=f"{height:.1f}", r=2.5,
            )
            for place, height, x, y in points
        ]  # fmt: skip
    return element("g", *parts, class_=f"line c{number % NUM_COLOURS}")


def _legend(series: Sequence[Series]) -> Html:
    if len(series) < 2:
        return Html()
    return element(
        "ul",
        *(element("li", line.name, class_=f"c{number % NUM_COLOURS}")
          for number, line in enumerate(series)),
        class_="legend",
    )  # fmt: skip


def bar(value: float, highest: float) -> Html:
    """Return a number with a bar as long as its share of the highest."""
    share = max(0.0, min(1.0, value / highest)) if highest > 0 else 0.0
    picture = element("i", class_="bar", style=f"width:{share:.1%}")
    return join([f"{value:.2f}", picture])

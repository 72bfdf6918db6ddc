"""Charts: round ticks, lines inside the picture and in order, and long ones thinned evenly."""

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from itertools import pairwise

import pytest

from mtrain.evaluation.report.chart import (
    HEIGHT,
    MOST_POINTS,
    WIDTH,
    Mark,
    Point,
    Series,
    bar,
    line_chart,
    tell,
    thin,
    ticks,
)

CURVE = [(float(x), 10 * math.exp(-x / 40) + x % 3) for x in range(10, 1000, 10)]


def drawn(chart: str) -> list[list[Point]]:
    """Return the points of each line of a chart, as they are drawn."""
    root = ElementTree.fromstring(chart)
    return [
        [
            (float(x), float(y))
            for x, y in (pair.split(",") for pair in line.attrib["points"].split())
        ]
        for line in root.iter("polyline")
    ]


@pytest.mark.parametrize("low", [-3.7, 0.0, 1e-5, 12.0, 99_000.0])
@pytest.mark.parametrize("span", [1e-6, 0.37, 1.0, 24.9, 100.0, 3e5])
def test_ticks_are_few_round_numbers_at_even_steps(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 2 <= len(found) <= 7
    room = 1e-6 * span
    assert low - room <= found[0] < found[-1] <= low + span + room
    steps = [after - before for before, after in pairwise(found)]
    assert max(steps) - min(steps) <= 1e-6 * span + 1e-9 * abs(low)
    assert re.fullmatch(r"[125]\.?0*e[+-]\d+", f"{steps[0]:.3e}")


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.0, "0"), (20.0, "20"), (0.0015, "0.0015"), (12_000.0, "12,000"), (2e-5, "2e-5"),
     (-0.5, "-0.5"), (3e6, "3e6")],
)  # fmt: skip
def test_numbers_are_told_in_few_characters(value: float, told: str) -> None:
    assert tell(value) == told


@pytest.mark.parametrize("points", [CURVE, CURVE[:1], [(5.0, 0.0), (9.0, 0.0)], CURVE * 9])
def test_a_line_lies_in_the_picture_in_the_order_of_its_points(points: Sequence[Point]) -> None:
    points = sorted(points)
    (line,) = drawn(line_chart("Loss", [Series("train", points)], points[-1][0]))
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in line)
    assert line == sorted(line, key=lambda point: point[0])
    if len(points) == len(CURVE):
        lowest = min(points, key=lambda point: point[1])
        assert line[points.index(lowest)][1] == max(y for _, y in line)  # down is more in SVG
        assert line[0][1] == min(y for _, y in line)


def test_thinning_keeps_the_course_of_a_long_line() -> None:
    long = [(float(x), math.sin(x / 300)) for x in range(10_001)]
    short = thin(long)
    assert len(short) == MOST_POINTS
    assert short == sorted(short)
    assert all(abs(y - math.sin(x / 300)) < 0.01 for x, y in short)
    assert thin(CURVE) == CURVE


def test_lines_marks_and_names_are_all_there() -> None:
    chart = line_chart(
        "Dev BLEU",
        [Series("dev", CURVE[:5]), Series("nothing", []), Series("<en-de>", CURVE[2:4])],
        CURVE[-1][0],
        [Mark(20, "stage 2"), Mark(30, "best", is_main=True)],
    )
    root = ElementTree.fromstring(chart)
    assert [len(line) for line in drawn(chart)] == [5, 2]
    assert [item.text for item in root.iter("li")] == ["dev", "<en-de>"]
    labels = [text.text for text in root.iter("text")]
    assert {"stage 2", "best"} <= set(labels)
    titles = [title.text for title in root.iter("title")]
    assert titles[0] == f"update 10: dev {tell(CURVE[0][1])}"
    assert line_chart("Dev BLEU", [Series("dev", [])], 100) == ""


@pytest.mark.parametrize(("value", "highest", "width"), [(5, 10, "50.0%"), (0, 0, "0.0%"),
                                                         (12, 10, "100.0%")])  # fmt: skip
def test_a_bar_is_as_long_as_its_share(value: float, highest: float, width: str) -> None:
    assert f"width:{width}" in bar(value, highest)

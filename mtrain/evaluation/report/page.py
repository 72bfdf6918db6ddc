"""The page: what a run is, its curves, scores, samples, attention, data and configuration."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from mtrain.evaluation.report.alignments import Heatmap, attention_section
from mtrain.evaluation.report.curves import curves_section
from mtrain.evaluation.report.ledger import ledger_section
from mtrain.evaluation.report.markup import Html, details, element, escape, join, section
from mtrain.evaluation.report.quality import lengths_section, samples_section, scores_section
from mtrain.evaluation.scored import ScoredSet

TEMPLATE = "page.html"
MARK = b"<!-- written by mtrain: the report of a run -->"  # in the first lines of each page
PLACES = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class Content:
    """All that the page tells. What is missing is told by the note of its section."""

    name: str
    facts: Sequence[tuple[str, str]]  # label and value
    events: Sequence[Mapping[str, Any]]  # of metrics.jsonl
    best_update: int | None
    scored: Sequence[ScoredSet]  # valid by direction, then test sets
    scores_note: str
    heatmaps: Sequence[Heatmap]
    attention_note: str
    manifest: Mapping[str, Any] | None
    manifest_note: str
    configuration: str  # as YAML


def is_page(path: Path) -> bool:
    """Return whether a file is a page of this module, of any version."""
    with path.open("rb") as file:
        return MARK in file.read(1000)


def render(content: Content) -> str:
    """Return the page as HTML."""
    translated = [entry.texts for entry in content.scored if entry.texts and entry.name == "valid"]
    parts = {
        "title": escape(content.name),
        "mark": Html(MARK.decode()),
        "body": join([
            element("header", element("h1", content.name), _facts(content.facts)),
            curves_section(content.events, content.best_update),
            scores_section(content.scored, content.scores_note),
            lengths_section(content.scored),
            samples_section(translated),
            attention_section(content.heatmaps, content.attention_note),
            ledger_section(content.manifest, content.manifest_note),
            section(
                "Configuration",
                details("Every key, defaults included", element("pre", content.configuration)),
            ),
        ]),
    }  # fmt: skip
    template = files("mtrain.evaluation.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    return PLACES.sub(lambda place: parts[place[1]], template)


def _facts(facts: Sequence[tuple[str, str]]) -> Html:
    rows = [element("div", element("dt", label), element("dd", value)) for label, value in facts]
    return element("dl", *rows, class_="facts")

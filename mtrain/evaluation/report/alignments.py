"""Word alignments of a few sentences as heat maps in HTML tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from mtrain.data.store import FloatArray
from mtrain.evaluation.report.markup import Html, element, join, prose, section, text_of_user

TITLE = "Attention"


@dataclass(frozen=True)
class Heatmap:
    """The attention (T,S) of each target word, a row, over the source words."""

    rows: Sequence[str]
    columns: Sequence[str]
    weights: FloatArray


def attention_section(heatmaps: Sequence[Heatmap], note: str) -> Html:
    """Return the heat maps, or the note alone if there are none."""
    if not heatmaps:
        return section(TITLE, prose(note)) if note else Html()
    return section(TITLE, prose(note), element("div", *map(_table, heatmaps), class_="heatmaps"))


def _table(heatmap: Heatmap) -> Html:
    names = [element("th", text_of_user(name, "span"), scope="col") for name in heatmap.columns]
    lines = [element("tr", element("td"), *names)]
    for row, name in enumerate(heatmap.rows):
        cells = [
            element(
                "td",
                style=f"--w:{weight:.2f}",
                title=f"{name} attends {weight:.2f} to {heatmap.columns[column]}",
            )
            for column, weight in enumerate(heatmap.weights[row].tolist())
        ]
        lines.append(element("tr", element("th", text_of_user(name), scope="row"), *cells))
    return element("div", element("table", join(lines), class_="heat"), class_="wide", tabindex=0)

"""Attention as PNG heatmaps of one matrix, or of every layer and head.

Needs the extra `plot`. White is 1 and black is 0, as in Bahdanau et al. 2015, figure 3.
"""

import unicodedata
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtrain.data.store import FloatArray
from mtrain.errors import missing_extra
from mtrain.evaluation.attention import SentenceAttention
from mtrain.text.lines import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 150
LONGEST_SIDE = 36.0  # inches, 5400 pixels
SMALLEST_FONT = 4.0  # points; labels that need a smaller font are left out
LONGEST_TOKEN = 24  # characters
INVISIBLE = ("Cc", "Zl", "Zp")  # no glyphs: controls, line and paragraph separators
# The first font with a glyph draws it; fonts that are not installed are skipped.
FONTS = (
    "DejaVu Sans", "Noto Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Micro Hei",
    "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic",
    "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai",
    "Arial Unicode MS", "Noto Emoji", "Symbola", "Unifont",
)  # fmt: skip


def check_available(purpose: str) -> None:
    """Raise UserError if matplotlib is not installed; `purpose` says what needs it."""
    if find_spec("matplotlib") is None:
        raise missing_extra("matplotlib", "plot", purpose)


def write_heatmap(
    path: Path,
    sentence: SentenceAttention,
    kind: str,
    layer: int | None = None,
    head: int | None = None,
) -> None:
    """Draw the attention of a layer and head, counted from 0; None is the mean."""
    matrix = sentence.matrix(kind, layer, head)
    num_rows, num_columns = matrix.shape
    cell = min(0.28, LONGEST_SIDE / max(num_rows, num_columns))
    figure = _new_figure(cell * num_columns, cell * num_rows)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    _draw(axes, matrix, f"{kind} attention, {_name(layer, head)}", max(9.0, cell * num_columns))
    _label(axes, *sentence.axes(kind), cell)
    _save(figure, path)


def write_all_heads(path: Path, sentence: SentenceAttention, kind: str) -> None:
    """Draw the attention of every head: rows are layers, columns are heads, labelled from 1."""
    num_layers, num_heads, num_rows, num_columns = sentence.weights[kind].shape
    gap_across, gap_down, narrowest = 0.15, 0.3, 0.9  # inches; the gap below holds the name
    cell = min(
        max(0.11, narrowest / num_columns),
        (LONGEST_SIDE / num_heads - gap_across) / num_columns,
        (LONGEST_SIDE / num_layers - gap_down) / num_rows,
    )
    across, down = cell * num_columns + gap_across, cell * num_rows + gap_down
    figure = _new_figure(across * num_heads, down * num_layers)
    size = (1 - gap_across / across) / num_heads, (1 - gap_down / down) / num_layers
    font_size = min(14.0, max(7.0, 3 * across))
    rows, columns = sentence.axes(kind)
    for layer in range(num_layers):
        for head in range(num_heads):
            axes = figure.add_axes((head / num_heads, 1 - (layer + 1) / num_layers, *size))
            _draw(axes, sentence.matrix(kind, layer, head), _name(layer, head), font_size)
            _label(axes, rows if head == 0 else [], columns if layer == 0 else [], cell)
    _save(figure, path)


def _name(layer: int | None, head: int | None) -> str:
    where = "mean of layers" if layer is None else f"layer {layer + 1}"
    return f"{where}, mean of heads" if head is None else f"{where}, head {head + 1}"


def _new_figure(width: float, height: float) -> "Figure":
    """Return a figure of this size in inches; `_save` includes what exceeds it."""
    from matplotlib.figure import Figure  # not pyplot: it keeps every figure alive

    return Figure(figsize=(width, height), dpi=DOTS_PER_INCH)


def _draw(axes: "Axes", matrix: FloatArray, name: str, font_size: float) -> None:
    axes.imshow(matrix, cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.set_xlabel(name, fontsize=font_size, labelpad=3)
    axes.set_xticks([])
    axes.set_yticks([])


def _label(axes: "Axes", rows: list[str], columns: list[str], cell: float) -> None:
    """Label columns at the top and rows on the left, if cells (in inches) leave room."""
    font_size = min(11.0, cell * 72 * 0.8)
    if font_size < SMALLEST_FONT:
        return
    style: dict[str, Any] = {"fontsize": font_size, "family": _fonts(), "parse_math": False}
    axes.tick_params(length=0, pad=2, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.set_xticks(range(len(columns)), [_shown(token) for token in columns], rotation=90, **style)
    axes.set_yticks(range(len(rows)), [_shown(token) for token in rows], **style)


def _shown(token: str) -> str:
    """Return a token on one line, shortened, without control characters."""
    plain = "".join("·" if unicodedata.category(sign) in INVISIBLE else sign for sign in token)
    return plain if len(plain) <= LONGEST_TOKEN else plain[: LONGEST_TOKEN - 1] + "…"


def _fonts() -> list[str]:
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return [font for font in FONTS if font in installed]


def _save(figure: "Figure", path: Path) -> None:
    with write_whole(path) as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # no font has the glyph: a box replaces it
        figure.savefig(file, format="png", bbox_inches="tight", pad_inches=0.1)

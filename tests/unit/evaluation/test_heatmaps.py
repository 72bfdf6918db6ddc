"""Heatmaps: pictures of a sane size that show the weights they are given, whatever the tokens."""

import struct
from pathlib import Path

import numpy as np
import pytest

from mtrain.errors import UserError
from mtrain.evaluation import heatmaps
from mtrain.evaluation.attention import SentenceAttention
from mtrain.evaluation.heatmaps import check_available, write_all_heads, write_heatmap
from tests.unit.evaluation.test_attention import END, SOURCE, TARGET, random_attention

matplotlib_image = pytest.importorskip("matplotlib.image")

SIDE = 9.0  # inches; as long as real pictures get, each would take seconds
MAX_PIXELS = (SIDE + 7) * heatmaps.DOTS_PER_INCH  # with labels of the longest tokens
ODD_TOKENS = ["▁我们", "مرحبا", "😀", "$x^2$", "a_{b", "\u2028", "\x07", "<0xF0>", "w" * 300, "▁"]


def size_of(path: Path) -> tuple[int, int]:
    """Return the width and height that a PNG file states."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:])
    return width, height


def pixels(path: Path) -> np.ndarray:
    return np.asarray(matplotlib_image.imread(path))


@pytest.mark.parametrize("length", [1, 8, 40, 170])
def test_pictures_grow_with_the_sentence_up_to_a_limit(
    tmp_path: Path, length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heatmaps, "LONGEST_SIDE", SIDE)
    tokens = [*(SOURCE * length)[: length - 1], END]
    sentence = random_attention(tokens, tokens, layers=2, heads=2)
    write_heatmap(tmp_path / "one.png", sentence, "cross", 0, 0)
    write_all_heads(tmp_path / "all.png", sentence, "cross")
    for name in ("one.png", "all.png"):
        width, height = size_of(tmp_path / name)
        at_least = min(SIDE * heatmaps.DOTS_PER_INCH - 100, 10 * length)
        assert at_least <= width <= MAX_PIXELS
        assert at_least <= height <= MAX_PIXELS


def test_another_head_is_another_picture(tmp_path: Path) -> None:
    sentence = random_attention(SOURCE, TARGET)
    choices = [(0, 0), (0, 1), (1, 0), (None, 0), (0, None), (None, None)]
    pictures = []
    for number, (layer, head) in enumerate(choices):
        write_heatmap(tmp_path / f"{number}.png", sentence, "cross", layer, head)
        pictures.append(pixels(tmp_path / f"{number}.png").tobytes())
    assert len(set(pictures)) == len(choices)


def test_white_is_one_and_black_is_nought(tmp_path: Path) -> None:
    """Of one row [1, 0] the left half of the picture is the lighter; of [0, 1] the right."""
    lightness = []
    for number, row in enumerate(([1, 0], [0, 1])):
        weights = np.array(row, dtype=np.float32)[None, None, None]
        sentence = SentenceAttention(["▁a", END], [END], {"cross": weights})
        write_heatmap(tmp_path / f"{number}.png", sentence, "cross", 0, 0)
        lightness.append(pixels(tmp_path / f"{number}.png")[..., :3].mean(axis=2))
    brighter, darker = lightness[0] > 0.9, lightness[0] < 0.1
    turned = lightness[1] < 0.1
    cell = brighter & turned  # white in the first, black in the second
    assert cell.sum() > 1000
    assert np.argwhere(cell)[:, 1].mean() < np.argwhere(darker & (lightness[1] > 0.9))[:, 1].mean()


def test_all_heads_stand_in_one_picture(tmp_path: Path) -> None:
    sentence = random_attention(SOURCE, TARGET, layers=2, heads=2)
    write_all_heads(tmp_path / "before.png", sentence, "cross")
    before = pixels(tmp_path / "before.png")
    height, width = before.shape[:2]
    for layer, head in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        weights = sentence.weights["cross"].copy()
        weights[layer, head] = 0
        changed = SentenceAttention(SOURCE, TARGET, {"cross": weights})
        write_all_heads(tmp_path / "after.png", changed, "cross")
        rows, columns = np.nonzero((pixels(tmp_path / "after.png") != before).any(axis=2))
        assert (rows.mean() > height / 2, columns.mean() > width / 2) == (layer == 1, head == 1)


def test_any_token_can_be_drawn_without_a_warning(
    tmp_path: Path, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    plain = ["▁w"] * len(ODD_TOKENS)
    for name, tokens in (("plain", plain), ("odd", ODD_TOKENS)):
        sentence = random_attention([*tokens, END], [*tokens, END])
        write_heatmap(tmp_path / f"{name}.png", sentence, "cross", 0, 0)
        write_all_heads(tmp_path / f"{name}-all.png", sentence, "decoder")
    assert [str(warning.message) for warning in recwarn] == []
    assert caplog.messages == []
    odd, usual = size_of(tmp_path / "odd.png"), size_of(tmp_path / "plain.png")
    assert max(odd[0] - usual[0], odd[1] - usual[1]) < 600  # the longest is cut short


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_available("a picture")
    monkeypatch.setattr(heatmaps, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"mtrain\[plot\]"):
        check_available("a picture")

"""The attention page in a browser: it shows the weights it was given, and any token as text."""

import html
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtrain.evaluation.attention import SentenceAttention
from mtrain.evaluation.attention_page import write_page
from tests.unit.evaluation.browser import CHROMIUM, assert_fetches_nothing, browse
from tests.unit.evaluation.test_attention import (
    END,
    SOURCE,
    TARGET,
    decoder_only_attention,
    random_attention,
)

HOSTILE = [
    "</script>", "<b>&", "<!--", "&lt;", "{{data}}", "'\"`${1}", "\\u003c", "\u2028", "</SCRIPT ",
    "<img src=http://attention.test/x onerror=document.title=1>",
    "<script src=http://attention.test/y></script>", "▁我们", "مرحبا", "😀", END,
]  # fmt: skip
SENTENCES = [
    random_attention(SOURCE, TARGET, layers=2, heads=3),
    random_attention(HOSTILE, HOSTILE[::-1], layers=1, heads=2, seed=2),
    decoder_only_attention(SOURCE, TARGET),
]
HALF_A_STEP = 0.5 / 255 + 1e-6  # a weight is a byte in the page
# What a reader of the page sees, as JSON.
LOOK = """
const texts = (place, what) =>
  [...document.querySelectorAll(`${place} > span`)].map((token) => what(token).textContent);
const canvas = document.querySelector("#cells canvas");
const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
return {
  title: [document.title, document.querySelector("h1").textContent],
  rows: texts("#row-tokens", (token) => token.firstChild),
  columns: texts("#column-tokens", (token) => token.firstChild),
  labels: [texts("#rows", (token) => token), texts("#columns", (token) => token)],
  of_row: texts("#column-tokens", (token) => token.lastChild).map(Number),
  of_column: texts("#row-tokens", (token) => token.lastChild).map(Number),
  readout: document.getElementById("readout").textContent,
  opacity: [...image].filter((_, i) => i % 4 === 3),
  choices: [...document.querySelectorAll("select")].map((list) => list.value),
  kinds: [...document.querySelector("[name=kind]").options].map((kind) => kind.value),
  num_thumbnails: document.querySelectorAll("#heads canvas").length,
  address: location.hash,
  fetched: performance.getEntriesByType("resource").map((entry) => entry.name),
  foreign: document.querySelectorAll("b img, h1 *, span b, span img, script[src]").length,
};
"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "attention.html"
    write_page(path, SENTENCES, "run <b>&")
    return path


def look(page: Path, fragment: str, actions: str = "") -> dict[str, Any]:
    """Return what is to be seen on the page, after some JavaScript that acts as its user."""
    probed = page.with_name("probed.html")
    probe = f"""<script>addEventListener("load", () => {{
      const answer = document.createElement("pre");
      {actions}
      answer.id = "answer";
      answer.textContent = JSON.stringify((() => {{ {LOOK} }})());
      document.body.append(answer);
    }});</script>"""
    probed.write_text(page.read_text("utf-8") + probe, "utf-8")
    answer = re.search('<pre id="answer">(.*?)</pre>', browse(probed, fragment), re.DOTALL)
    assert answer is not None
    seen: dict[str, Any] = json.loads(html.unescape(answer[1]))
    return seen


def assert_shows(
    seen: dict[str, Any], sentence: SentenceAttention, kind: str, cell: tuple[int, int],
    layer: int | None, head: int | None,
) -> None:  # fmt: skip
    """Fail unless the tokens and numbers seen are those of a layer and head, from 0."""
    matrix = sentence.matrix(kind, layer, head)
    rows, columns = sentence.axes(kind)
    row, column = cell
    assert (seen["rows"], seen["columns"]) == (rows, columns)
    assert seen["labels"] == [rows, columns]
    two_digits = HALF_A_STEP + 0.005
    np.testing.assert_allclose(seen["of_row"], matrix[row], atol=two_digits, rtol=0)
    np.testing.assert_allclose(seen["of_column"], matrix[:, column], atol=two_digits, rtol=0)
    shown = (np.array(seen["opacity"]) / 255) ** 2  # the shade is the root of the weight
    np.testing.assert_allclose(shown, matrix.reshape(-1), atol=0.008, rtol=0)
    said = re.fullmatch(r"(.*) attends (\d\.\d\d) to (.*)", seen["readout"], re.DOTALL)
    assert said is not None
    assert (said[1], said[3]) == (rows[row], columns[column])
    assert abs(float(said[2]) - matrix[row, column]) <= two_digits


@pytest.mark.parametrize(
    ("number", "kind", "layer", "head", "cell"),
    [
        (0, "cross", 1, 2, (3, 4)),
        (0, "decoder", None, 0, (7, 0)),
        (0, "encoder", None, None, (0, 6)),
        (2, "decoder", 0, 1, (9, 7)),
    ],
)
def test_the_address_chooses_what_is_shown(
    page: Path, number: int, kind: str, layer: int | None, head: int | None, cell: tuple[int, int]
) -> None:
    from_one = ["mean" if choice is None else choice + 1 for choice in (layer, head)]
    fragment = (
        f"sentence={number + 1}&kind={kind}&layer={from_one[0]}&head={from_one[1]}"
        f"&row={cell[0] + 1}&column={cell[1] + 1}"
    )
    seen = look(page, fragment)
    assert_shows(seen, SENTENCES[number], kind, cell, layer, head)
    assert seen["choices"] == [str(number + 1), kind, *map(str, from_one)]
    assert set(seen["kinds"]) == set(SENTENCES[number].weights)
    assert seen["num_thumbnails"] == np.prod(SENTENCES[number].weights[kind].shape[:2])


@pytest.mark.parametrize("fragment", ["", "sentence=99&kind=none&layer=x&head=-1&row=1.5&column="])
def test_without_a_choice_the_mean_of_the_first_sentence_is_shown(
    page: Path, fragment: str
) -> None:
    seen = look(page, fragment)
    strongest = int(SENTENCES[0].matrix("cross")[0].argmax())
    assert_shows(seen, SENTENCES[0], "cross", (0, strongest), None, None)


def test_lists_pointer_and_keys_change_what_is_shown(page: Path) -> None:
    choose = """
      const choose = (name, value) => {
        document.querySelector(`[name=${name}]`).value = value;
        document.forms[0].dispatchEvent(new Event("change", { bubbles: true }));
      };
      choose("kind", "encoder"); choose("layer", "2"); choose("head", "3");
    """
    matrix = SENTENCES[0].matrix("encoder", 1, 2)
    hover = """
      document.querySelectorAll("#row-tokens span")[4]
        .dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
    """
    seen = look(page, "sentence=1&kind=cross&layer=1&head=1&row=1&column=1", choose + hover)
    assert_shows(seen, SENTENCES[0], "encoder", (4, int(matrix[4].argmax())), 1, 2)
    assert seen["address"].startswith("#sentence=1&kind=encoder&layer=2&head=3")
    point = """
      const cells = document.getElementById("cells"), box = cells.getBoundingClientRect();
      cells.dispatchEvent(new PointerEvent("pointermove", {
        clientX: box.left + box.width * 1.5 / 7, clientY: box.top + box.height * 2.5 / 7,
      }));
      for (const key of ["ArrowDown", "ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowDown"])
        cells.dispatchEvent(new KeyboardEvent("keydown", { key }));
      cells.click();
    """
    seen = look(page, "", choose + point)
    assert_shows(seen, SENTENCES[0], "encoder", (4, 0), 1, 2)
    assert seen["address"] == "#sentence=1&kind=encoder&layer=2&head=3&row=5&column=1"
    press = """document.querySelectorAll("#heads button")[4].click();"""
    seen = look(page, "kind=decoder&row=3&column=2", press)
    assert_shows(seen, SENTENCES[0], "decoder", (2, 1), 1, 1)


def test_hostile_tokens_are_text(page: Path) -> None:
    fragment = "sentence=2&kind=decoder&row=1&column=2"
    seen = look(page, fragment)
    assert_shows(seen, SENTENCES[1], "decoder", (0, 1), None, None)
    assert seen["title"] == ["run <b>&", "run <b>&"]
    assert seen["foreign"] == 0
    assert "&lt;img src=http://attention.test/x" in browse(page, fragment)


def test_nothing_is_fetched(page: Path, tmp_path: Path) -> None:
    assert look(page, "sentence=2")["fetched"] == []
    assert_fetches_nothing(page, tmp_path, "sentence=2")


def test_no_sentence_is_said_and_not_an_error(tmp_path: Path) -> None:
    write_page(tmp_path / "empty.html", [], "empty")
    assert (
        "There is no sentence to show." in browse(tmp_path / "empty.html", "").split("<script")[0]
    )

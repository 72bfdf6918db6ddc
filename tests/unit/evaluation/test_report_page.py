"""The report's page: all is there, any text is only text, what is missing is told.

In a browser: nothing is fetched, no script runs, it fits a phone.
"""

import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtrain.evaluation.report.alignments import Heatmap
from mtrain.evaluation.report.page import Content, is_page, render
from mtrain.evaluation.report.quality import RANKS, spread_samples
from mtrain.evaluation.scored import SetTexts, score_set
from tests.unit.evaluation.browser import CHROMIUM, assert_fetches_nothing, browse

HOSTILE = [
    "</script><script>document.title='run'</script>", "<img src=http://attention.test/x>",
    "{{body}}",
    "&lt;", "'\"`${1}", "<style>body{display:none}</style>", "مرحبا \u202e", "\x00\x1b[31m", "<!--",
    "</title><b>", "]]>", "<iframe src=http://attention.test/y>",
]  # fmt: skip
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")


def counts(kept: int, length: int) -> dict[str, int]:
    return {"kept": kept, "identical": 0, "empty": 0, "length": length}


def manifest(text: str) -> dict[str, Any]:
    return {
        "settings": {"data": {}, "tokenizer": {}},
        "splits": {"train": {"pairs": 90, "tokens": {"source": 900, "target": 990},
                             "vocab_size": 500},
                   "valid": {"pairs": 12, "tokens": {"source": 120, "target": 130},
                             "left_out_of_loss": 0}},
        "valid_pairs": 12, "watch": {}, "tests": {text: 10}, "read_pairs": 100,
        "filtered": [{"corpus": text, "seen": 100, "counts": counts(90, 10),
                      "samples": {"length": [[text, f"{text} again"]]}}],
        "train_sources_also_in_valid_or_test": 3,
    }  # fmt: skip


def events(text: str) -> list[dict[str, Any]]:
    train = [{"kind": "train", "update": update, "minutes": update / 60, "target_tokens": update,
              "loss": None if update == 20 else 100 / update, "learning_rate": 1e-3}
             for update in range(10, 200, 10)]  # fmt: skip
    valid = [{"kind": "valid", "update": update, "minutes": update / 60, "target_tokens": update,
              "loss": 80 / update, "bleu": update / 10, "chrf": update / 5,
              "watch": {text: {"loss": 2.0, "bleu": 7.25, "chrf": 9.0}}}
             for update in (50, 100, 150)]  # fmt: skip
    return [*train, *valid, {"kind": "stage", "update": 80, "stage": 2}]


def content(texts: list[str]) -> Content:
    """Return a page's content in which each of the texts stands everywhere."""
    joined = " ".join(texts)
    valid = SetTexts("valid", ("en", "de"), texts, [[f"r {text}" for text in texts]],
                     [f"o {text}" for text in texts])  # fmt: skip
    weights = np.full((len(texts), len(texts)), 1 / len(texts), dtype=np.float32)
    return Content(
        joined, [("Model", joined)], events(joined), 150, [score_set(valid, None)], "no scores",
        [Heatmap(texts, texts, weights)], joined, manifest(joined), "no data", joined,
    )  # fmt: skip


class Reader(HTMLParser):
    """Collects what a reader sees of a page, and its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self._in_style = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._in_style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self.texts.append(data)


def as_shown(text: str) -> str:
    return re.sub("[\x00-\x08\x0b-\x1f]", "\ufffd", text)


def test_any_text_is_only_text() -> None:
    read, plain = Reader(render(content(HOSTILE))), Reader(render(content(["a b"] * len(HOSTILE))))
    assert sorted(read.tags) == sorted(plain.tags)
    for text in HOSTILE:
        for shown in (text, f"r {text}", f"o {text}"):
            assert read.texts.count(as_shown(shown)) >= 1
    assert sum(as_shown(" ".join(HOSTILE)) in text for text in read.texts) >= 8


def test_the_page_tells_all_that_it_is_given() -> None:
    page = render(content(["one two three", "four five six seven"]))
    read = " ".join(Reader(page).texts)
    for told in ("Loss per token", "Dev BLEU", "Learning rate", "stage 2", "best", "BLEU", "chrF2",
                 "TER", "nrefs:1|case:mixed", "Quality by source length", "watch one two three",
                 "o four five six seven", "longer than data.filters.max_tokens", "10",
                 "500 pieces", "3 training sources", "7.25"):  # fmt: skip
        assert told in read, told
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_what_is_missing_is_told() -> None:
    bare = replace(
        content(["a b c"]), events=[], best_update=None, scored=[], heatmaps=[], manifest=None
    )
    read = " ".join(Reader(render(bare)).texts)
    for told in ("no scores", "no data", "a b c", "metrics.jsonl"):
        assert told in read
    assert "Samples" not in read


def test_samples_are_spread_from_best_to_worst() -> None:
    references = [f"the {number} quick brown foxes jump" for number in range(40)]
    outputs = [line[: len(line) - number % 25] for number, line in enumerate(references)]
    texts = SetTexts("valid", ("en", "de"), references, [references], outputs)
    samples = spread_samples(texts, 12)
    assert len({sample.line for sample in samples}) == len(samples) == 12
    assert [sample.rank for sample in samples] == [rank for rank in RANKS for _ in range(4)]
    scores = [sample.chrf for sample in samples]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == pytest.approx(100)
    assert all(samples[5].output == outputs[sample.line - 1] for sample in samples[5:6])
    for count in range(1, 12):
        few = SetTexts("valid", ("en", "de"), references[:count], [references[:count]],
                       outputs[:count])  # fmt: skip
        assert sorted(sample.line for sample in spread_samples(few, 12)) == [*range(1, count + 1)]


def test_a_page_is_known_as_ours(tmp_path: Path) -> None:
    (tmp_path / "ours.html").write_text(render(content(["a"])), "utf-8")
    (tmp_path / "other.html").write_text("<!DOCTYPE html>\n<title>mtrain</title>")
    assert is_page(tmp_path / "ours.html")
    assert not is_page(tmp_path / "other.html")


@needs_browser
def test_in_a_browser_nothing_is_fetched_and_no_script_runs(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(content(HOSTILE)), "utf-8")
    assert_fetches_nothing(page, tmp_path)
    page.write_text(page.read_text("utf-8") + "<script>document.title = 'it ran'</script>", "utf-8")
    stands = browse(page, "")
    assert "<title>it ran</title>" not in stands
    assert html.escape(HOSTILE[0], quote=False) in stands


@needs_browser
@pytest.mark.parametrize("width", [500, 1200])  # Chromium's narrowest window
def test_in_a_browser_it_fits_the_window(width: int, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    texts = ["a sentence of words that go on and on " * 5, "b" * 200, "c d e"]
    page.write_text(render(content(texts)), "utf-8")
    probe = """<script>addEventListener("load", () => {
      const box = (what) => document.querySelector(what).getBoundingClientRect();
      document.title = [document.documentElement.scrollWidth <= innerWidth,
        box("svg").width > 250, box("svg").height > 100, box(".heat").height > 50].join();
    });</script>"""
    policy = re.compile('<meta http-equiv="Content-Security-Policy".*?>', re.DOTALL)
    page.write_text(policy.sub("", page.read_text("utf-8")) + probe, "utf-8")
    stands = browse(page, "", f"--window-size={width},900")
    assert re.findall("<title>(.*?)</title>", stands)[0] == "true,true,true,true"

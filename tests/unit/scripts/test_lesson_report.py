"""The lesson's page says what the figures say, both ways round, and its heads are really found."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtrain.errors import UserError
from mtrain.evaluation.attention import SentenceAttention
from tests.in_process import open_run, save_run, small_config

LESSON = Path(__file__).parents[3] / "scripts" / "lesson"
with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(LESSON))
    import heads
    import report

pytest.importorskip("matplotlib")

RANGES = [(0, 5), (6, 10), (11, 20), (21, 40), (41, None)]
LONGEST = 40
PLOTS = ["bleu-by-length.png", "curves.png", "positions.png", "speed.png"]
GOOD = {  # the lesson's way: BLEU by range, tokens a second
    report.PLAIN_RNN: ([20.0, 18.0, 12.0, 7.0, 3.0], 4000.0),
    report.RNN: ([22.0, 22.5, 22.1, 21.9, 21.8], 2000.0),
    report.TRANSFORMER: ([24.0, 24.2, 24.1, 23.0, 20.0], 6000.0),
    report.LEARNED: ([24.1, 24.0, 24.3, 22.9, 9.0], 5900.0),
    report.ROTARY: ([25.0, 25.2, 25.1, 24.0, 23.0], 5500.0),
    report.GUIDED: ([23.7, 24.0, 23.8, 22.7, 19.8], 5800.0),
}
BAD = {  # the other way round
    report.PLAIN_RNN: ([20.0, 21.0, 22.0, 22.5, 23.0], 9000.0),
    report.RNN: ([19.0, 17.0, 15.0, 12.0, 9.0], 8000.0),
    report.TRANSFORMER: ([24.0, 24.2, 24.1, 23.0, 10.0], 6000.0),
    report.LEARNED: ([21.0, 21.0, 21.3, 20.9, 19.0], 5900.0),
    report.ROTARY: ([21.0, 21.2, 21.1, 21.0, 12.0], 5500.0),
    report.GUIDED: ([20.7, 21.0, 20.8, 20.7, 10.8], 5800.0),
}


def member(name: str, bleus: list[float], speed: float, sentences: int = 100) -> dict[str, Any]:
    """Return the results of a member; its BLEU on the whole test set is that of range three."""
    return {
        "title": f"the {name}",
        "parameters": 2_345_678,
        "updates": 1234,
        "target_tokens": 5_678_901,
        "tokens_per_second": speed,
        "dev_bleu": bleus[1],
        "curve": [[0.5, bleus[0] / 4], [1.0, bleus[0] / 2], [2.0, bleus[1]]],
        "scores": {"BLEU": bleus[2], "chrF2": 51.2, "TER": 61.3},
        "signatures": {"BLEU": "nrefs:1|tok:13a", "chrF2": "nrefs:1|nc:6"},
        "by_length": [
            {"shortest": shortest, "longest": longest, "sentences": sentences, "bleu": bleu,
             "chrf": 50.0, "length_ratio": 0.97}
            for (shortest, longest), bleu in zip(RANGES, bleus, strict=True)
        ],
    }  # fmt: skip


def made_up_results(
    figures: dict[str, tuple[list[float], float]], errors: dict[str, float], **changes: Any
) -> dict[str, Any]:
    return {
        "command": "scripts/lesson/run.py --minutes 2 out",
        "commit": "abc1234",
        "date": "2026-11-24",
        "machine": "x86_64, 2 cores",
        "threads": 2,
        "minutes": 2.0,
        "precision": "bf16",
        "data": {
            "train_pairs": 98_765,
            "train_tokens": 1_234_567,
            "longest_training_tokens": 60,
            "longest_training_words": LONGEST,
            "test_sentences": 500,
            "near_duplicates": "17 of 500 test sources stand in train",
        },
        "members": {name: member(name, *shown, **changes) for name, shown in figures.items()},
        "alignment": {
            name: {"aer": aer, "precision": 0.7, "recall": 0.6, "links": 4321, "what": f"of {name}"}
            for name, aer in errors.items()
        },
        "gold": "the gold file",
    }


def made_up_heads(best: float, right_in_all: int) -> dict[str, Any]:
    figure = {"layer": 2, "head": 3, "best": best, "mean": 0.125, "by_head": [[best, 0.1]]}
    pair = {"sentences": ["It is it.", "It was it."], "nouns": ["cat", "hat"], "heads_right": 5,
            "looks_of_best": [[0.25, 0.125], [0.0625, 0.5]]}  # fmt: skip
    return {
        "run": "transformer-sinusoidal",
        "sentences": 77,
        "kinds": {kind: dict.fromkeys(names, figure) for kind, names in heads.MEASURES.items()},
        "it": {"heads": 8, "layer": 1, "head": 4, "right_of_best": 4, "right_in_all": right_in_all,
               "expected_as_good_as_best": 0.125, "expected_right_in_all": 0.0078,
               "pairs": [pair] * 5},
        "pictures": {"alignment.png": "the head that aligns"},
    }  # fmt: skip


def page_of(folder: Path, results: dict[str, Any], found: dict[str, Any]) -> str:
    """Return the page written from results in a folder; the page and its pictures lie beside."""
    (folder / "out" / "pictures").mkdir(parents=True)
    (folder / "out" / "results.json").write_text(json.dumps(results), "utf-8")
    (folder / "out" / "heads.json").write_text(json.dumps(found), "utf-8")
    (folder / "out" / "pictures" / "alignment.png").write_bytes(b"a picture")
    report.write_page(folder / "out", folder / "page" / "lesson.md")
    return (folder / "page" / "lesson.md").read_text("utf-8")


def verdicts(page: str) -> dict[str, str]:
    """Return the summary on top of a page: what the lesson says, and the verdict."""
    rows = page.split("| the lesson says | these runs |\n")[1].split("\n\n")[0].split("\n")[1:]
    return dict(row.strip("| ").split(" | ") for row in rows)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page of results as the lesson has them."""
    folder = tmp_path_factory.mktemp("good")
    errors = {report.RNN: 0.3, report.TRANSFORMER: 0.45, report.GUIDED: 0.25, report.JOINED: 0.35}
    page_of(folder, made_up_results(GOOD, errors), made_up_heads(0.9, 1))
    return folder


@pytest.fixture(scope="module")
def page(good: Path) -> str:
    return (good / "page" / "lesson.md").read_text("utf-8")


def test_figures_as_the_lesson_has_them_hold(page: str) -> None:
    found = verdicts(page)
    assert len(found) == 18
    assert set(found.values()) == {report.HOLDS}


def test_figures_the_other_way_round_do_not(tmp_path: Path) -> None:
    errors = {report.RNN: 0.5, report.TRANSFORMER: 0.3, report.GUIDED: 0.4, report.JOINED: 0.35}
    found = verdicts(page_of(tmp_path, made_up_results(BAD, errors), made_up_heads(0.13, 0)))
    assert len(found) == 18
    assert {verdict.removesuffix(": none found") for verdict in found.values()} == {report.FAILS}
    assert found["an encoder head resolves `it`"].endswith("none found")


def test_small_differences_are_not_separated(tmp_path: Path) -> None:
    same = {name: ([20.0, 20.3, 20.1, 19.9, 19.6], 5000.0) for name in GOOD}
    errors = dict.fromkeys((report.RNN, report.TRANSFORMER, report.GUIDED, report.JOINED), 0.3)
    results = made_up_results(same, errors)
    results["members"][report.RNN]["parameters"] = 3_000_000
    found = verdicts(page_of(tmp_path, results, made_up_heads(0.9, 0)))
    compared = [
        "makes an RNN", "without attention, quality", "helps the more", "faster than an RNN with ",
        "faster than an RNN without", "sinusoidal positions gain on", "rotary positions gain on",
        "better than a Transformer", "two directions", "guided attention",
    ]  # fmt: skip
    open_ones = [says for says, verdict in found.items() if verdict.startswith(report.OPEN)]
    assert [part for part in compared if not any(part in says for says in open_ones)] == []
    assert len(open_ones) == len(compared)
    (speed,) = (found[says] for says in open_ones if "RNN with " in says)
    assert speed == f"{report.OPEN}, at 0.78 times the parameters"


def test_too_few_sentences_are_not_judged(tmp_path: Path) -> None:
    results = made_up_results(GOOD, {}, sentences=report.FEWEST_SENTENCES - 1)
    page = page_of(tmp_path, results, made_up_heads(0.9, 1))
    assert list(verdicts(page).values()).count(report.UNKNOWN) == 3
    assert "(few)" in page
    assert "No gold was given." in page


def test_claims_state_their_figures(page: str) -> None:
    for measured in (
        "20.0 BLEU at 1–5 words, 3.0 at over 40, 15% of that. **holds**",
        "22.0 BLEU at 1–5 words, 21.8 at over 40, 99% of that. **holds**",
        "+2.0 BLEU at 1–5 words, +18.8 at over 40. **holds**",
        "6,000 target tokens a second with 2.35 M parameters, the RNN 2,000 with 2.35 M: 3.00",
        "100 test sentences are in ranges beyond 40 words: 23.0 against 9.0 BLEU; the others",
        "best head: layer 2, head 3, with 90% of its weight; mean of all heads 12%. **holds**",
        "1 of 8 heads prefer the right noun in both sentences of all 5 pairs (0.0",
        "an error rate of 25.0% against 45.0%. **holds**",
    ):
        assert measured in page


def test_every_table_has_its_numbers(page: str) -> None:
    for row in (
        "| the rnn-none | 2.35 M | 1,234 | 5,678,901 | 4,000 | 18.0 | 12.0 | 51.2 | 61.3 |",
        "| 1–5 | 100 | 20.0 (0.97) | 22.0 (0.97) | 24.0 (0.97) |",
        "| over 40 (beyond training) | 100 | 20.0 (0.97) | 9.0 (0.97) | 23.0 (0.97) |",
        "| cross | diagonal | layer 2, head 3 | 0.900 | 0.125 |",
        "| It is it. | It was it. | 5 | cat 0.250, hat 0.125 | cat 0.062, hat 0.500 |",
        "| of both directions | 35.0% | 70.0% | 60.0% | 4,321 |",
    ):
        assert row in page


def test_the_page_says_how_it_was_made(page: str) -> None:
    for said in (
        "98,765 English-German pairs", "2 idle minutes", "x86_64, 2 cores, threads: 2", "abc1234",
        "2026-11-24", "17 of 500 test sources stand in train", "`nrefs:1|tok:13a`",
        "`scripts/lesson/run.py --minutes 2 out`", "the gold file",
    ):  # fmt: skip
        assert said in page


def test_the_plots_are_small_pictures_beside_the_page(good: Path, page: str) -> None:
    pictures = good / "page" / "pictures"
    assert sorted(path.name for path in pictures.iterdir()) == ["alignment.png", *PLOTS]
    for name in PLOTS:
        head = (pictures / name).read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert max(struct.unpack(">II", head[16:])) < 1200
        assert (pictures / name).stat().st_size < 100_000
        assert f"](pictures/{name})" in page
    assert "](pictures/alignment.png)" in page


def attention(rows: int, columns: int, at: np.ndarray) -> np.ndarray:
    """Return weights (2,2,R,C), even but for layer 2, head 1, all of which is at a place a row."""
    weights = np.full((2, 2, rows, columns), 1 / columns, dtype=np.float32)
    weights[1, 0] = np.eye(columns, dtype=np.float32)[at]
    return weights


@pytest.mark.parametrize(
    ("measure", "at"),
    [
        ("previous", [0, 0, 1, 2, 3, 4, 5, 6]),
        ("same", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("next", [1, 2, 3, 4, 5, 6, 7, 0]),
        ("first", [7, 7, 0, 0, 0, 0, 0, 0]),
        ("end", [7, 7, 7, 7, 7, 7, 0, 0]),
        ("entropy", [3, 3, 3, 3, 3, 3, 3, 3]),
    ],
)
def test_a_head_that_does_one_thing_is_found(measure: str, at: list[int]) -> None:
    tokens = list("abcdefgh")
    sentence = SentenceAttention(tokens, tokens, {"encoder": attention(8, 8, np.array(at))})
    found = heads.compare_all([sentence, sentence])["encoder"][measure]
    best, even = (0.0, 3.0) if measure == "entropy" else (1.0, 1 / 8)
    assert (found["layer"], found["head"]) == (2, 1)
    assert found["best"] == pytest.approx(best, abs=1e-4)
    assert found["mean"] == pytest.approx((best + 3 * even) / 4, abs=1e-4)


def test_a_head_that_follows_the_source_is_found() -> None:
    """Over twice as many source tokens, end mark to end mark."""
    rows, columns = 5, 9
    sentence = SentenceAttention(
        list("abcdefghi"), list("abcde"),
        {"cross": attention(rows, columns, 2 * np.arange(rows))},
    )  # fmt: skip
    found = heads.compare_all([sentence])["cross"]["diagonal"]
    assert (found["layer"], found["head"], found["best"]) == (2, 1, 1.0)


def test_a_head_is_right_only_if_it_turns_with_the_sentence() -> None:
    """Head 1 always prefers the first noun, head 2 the right one, head 3 always the wrong one."""
    first = np.array([[[0.9, 0.1], [0.6, 0.2], [0.0, 0.5]]])
    second = np.array([[[0.9, 0.1], [0.1, 0.2], [0.5, 0.0]]])
    judged = heads.judge_it([(first, second)] * 3)
    assert (judged["layer"], judged["head"]) == (1, 2)
    assert (judged["heads"], judged["right_of_best"], judged["right_in_all"]) == (3, 3, 1)
    assert judged["expected_right_in_all"] == pytest.approx(3 / 64)
    assert judged["pairs"][0] == {"heads_right": 1, "looks_of_best": [[0.6, 0.2], [0.1, 0.2]]}
    nobody = heads.judge_it([(first[:, :1], second[:, :1])] * 3)
    assert (nobody["right_of_best"], nobody["right_in_all"]) == (0, 0)
    assert nobody["expected_as_good_as_best"] == pytest.approx(1)


def test_it_looks_at_words_whatever_their_pieces() -> None:
    source = ["▁The", "▁ani", "mal", "▁saw", "▁it", "▁by", "▁the", "▁street", "</s>"]
    weights = np.zeros((1, 1, 9, 9), dtype=np.float32)
    weights[0, 0, 4] = [0, 0.25, 0.25, 0, 0, 0, 0, 0.125, 0.375]
    sentence = SentenceAttention(source, ["</s>"], {"encoder": weights})
    assert heads.look_of_it(sentence, ("animal", "street")).tolist() == [[[0.5, 0.125]]]


MODEL = {"encoder_layers": 1, "decoder_layers": 2, "d_model": 16, "num_heads": 2, "ffn_dim": 16,
         "max_positions": 256}  # fmt: skip


def random_run(small_task: Path, run_dir: Path, model: dict[str, Any]) -> Path:
    """Save a model that has learnt nothing, as a run."""
    setup, run = open_run(small_config(small_task, run_dir, model=model))
    save_run(setup, run)
    return run_dir


def test_every_head_of_a_run_is_measured_and_drawn(small_task: Path, tmp_path: Path) -> None:
    run_dir = random_run(small_task, tmp_path / "run", MODEL)
    pairs = [("1 2 3", "three two one"), ("4 5", "five four"), ("7 " * 300, "seven")]
    heads.write_heads(run_dir, pairs, tmp_path)
    found = json.loads((tmp_path / "heads.json").read_text("utf-8"))
    assert found["sentences"] == 2  # the third is too long
    assert {kind: tuple(measures) for kind, measures in found["kinds"].items()} == heads.MEASURES
    for kind, measures in found["kinds"].items():
        layers = MODEL["encoder_layers" if kind == "encoder" else "decoder_layers"]
        for name, one in measures.items():
            by_head = np.array(one["by_head"])
            assert by_head.shape == (layers, 2)
            assert 0 <= by_head.min() <= by_head.max() <= (1 if name != "entropy" else 8)
            assert by_head[one["layer"] - 1, one["head"] - 1] == one["best"]
    assert len(found["it"]["pairs"]) == len(heads.PAIRS)
    written = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert written == set(found["pictures"]) == {
        "previous-token.png", "alignment.png", "it-tired.png", "it-wide.png",
    }  # fmt: skip


def test_heads_of_another_kind_of_model_are_refused(small_task: Path, tmp_path: Path) -> None:
    model = {"type": "rnn", "embedding_dim": 16, "hidden_dim": 16}
    run_dir = random_run(small_task, tmp_path / "run", model)
    with pytest.raises(UserError, match="no Transformer"):
        heads.find_heads(run_dir, [("1 2 3", "three two one")])

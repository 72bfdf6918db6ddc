"""`attention`, `align` and `translate --alignments` on a task whose true links are known.

Digits become words backwards: word n of the target belongs to the last digit but n.
"""

import json
import os
import random
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.cli.warm import WarmCommandLine
from tests.conftest import TINY_CONFIG, every_line, succeed, write_task

PICTURES = ("0001-alignment.png", "0001-cross.png", "0001-decoder.png", "0001-encoder.png")


def true_links(source: str) -> str:
    length = len(source.split())
    return " ".join(f"{place}-{length - 1 - place}" for place in range(length))


def error_rate(command: WarmCommandLine, hypotheses: Path, golds: Path) -> float:
    options = ("--alignments", hypotheses, "--gold-alignments", golds, "--json")
    rate: float = json.loads(succeed(command, "score", *options).out)["aer"]
    return rate


def write_links(path: Path, sources: Sequence[str]) -> Path:
    path.write_text("".join(f"{true_links(source)}\n" for source in sources))
    return path


@pytest.fixture(scope="session")
def guided_folder(tmp_path_factory: pytest.TempPathFactory, server: None) -> Path:
    """Runs that have learnt the task guided by its true links, forwards and backwards."""
    folder = tmp_path_factory.mktemp("guided")
    write_task(folder, {"train": 2000, "valid": 60, "test": 60})
    write_links(folder / "train.align", every_line((folder / "train.digits").read_text()))
    config = (
        TINY_CONFIG.replace("max_updates: 40", "max_updates: 300\n  optimizer: muon")
        .replace("learning_rate: 3.0e-3", "learning_rate: 0.01")
        .replace("valid_every: 20", "valid_every: 300\n  alignment_weight: 0.5")
        .replace("target: train.words}", "target: train.words, alignments: train.align}")
    )
    backwards = config.replace("run_dir: run", "run_dir: back")
    for one, other in (("source_lang: digits", "target_lang: words"),
                       ("source: train.digits", "target: train.words"),
                       ("source: valid.digits", "target: valid.words"),
                       ("source: test.digits", "target: test.words")):  # fmt: skip
        language, opposite = one.split(" ")[1], other.split(" ")[1]
        backwards = backwards.replace(one, f"{one.split(' ')[0]} {opposite}").replace(
            other, f"{other.split(' ')[0]} {language}"
        )
    command = WarmCommandLine(folder)
    for name, text in (("config.yaml", config), ("back.yaml", backwards)):
        (folder / name).write_text(text)
        succeed(command, "prepare", name)
        succeed(command, "train", name)
    command.close()
    return folder


def test_guided_attention_aligns_unseen_sentences_and_both_directions_at_least_as_well(
    warm: WarmCommandLine, guided_folder: Path, tmp_path: Path
) -> None:
    sources = every_line((guided_folder / "test.digits").read_text())
    golds = write_links(tmp_path / "gold", sources)
    texts = guided_folder / "test.digits", guided_folder / "test.words"
    run = guided_folder / "run"
    succeed(warm, "align", run, *texts, "--output", "one")
    joined = ("--reverse", guided_folder / "back", "--symmetrise", "intersection")
    succeed(warm, "align", run, *texts, "--output", "both", *joined)
    assert error_rate(warm, tmp_path / "one", golds) < 0.1
    assert error_rate(warm, tmp_path / "both", golds) < 0.1


def test_translations_are_aligned_as_they_are_by_align(
    warm: WarmCommandLine, guided_folder: Path, tmp_path: Path
) -> None:
    lines = ["3 1 2", "", "9 9", "1 2 3 4 5 6", "   "]
    (tmp_path / "in").write_text("".join(f"{line}\n" for line in lines))
    run = guided_folder / "run"
    succeed(warm, "translate", run, "in", "--output", "out", "--alignments", "links")
    links = every_line((tmp_path / "links").read_text())
    assert len(links) == len(lines)
    assert links[1] == links[4] == ""
    assert links[0] == true_links("3 1 2")
    assert every_line(succeed(warm, "align", run, "in", "out").out) == links


def test_a_line_that_was_translated_in_parts_is_aligned_as_a_whole(
    warm: WarmCommandLine, guided_folder: Path, tmp_path: Path
) -> None:
    digits = random.Random(1).choices("0123456789", k=90)
    (tmp_path / "in").write_text(" ".join(digits) + "\n")
    finished = succeed(warm, "translate", guided_folder / "run", "in", "--alignments", "links")
    (line,) = every_line((tmp_path / "links").read_text())
    links = [tuple(map(int, link.split("-"))) for link in line.split()]
    words = every_line(finished.out)[0].split()
    assert "split and rejoined" in finished.err
    assert min(source for source, _ in links) < 60 < max(source for source, _ in links)
    assert max(target for _, target in links) >= len(words) - 3  # the last part is linked
    assert all(source < 90 and target < len(words) for source, target in links)
    assert "longer than" in succeed(warm, "align", guided_folder / "run", "in", "in").err


def test_words_that_the_tokenizer_sees_otherwise_are_not_linked_and_counted(
    warm: WarmCommandLine, guided_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text("1\u200b2 3\n1 2\n")  # a hidden blank, which is one to the model
    (tmp_path / "out").write_text("three two one\ntwo one\n")
    finished = succeed(warm, "align", guided_folder / "run", "in", "out")
    assert every_line(finished.out) == ["", true_links("1 2")]
    assert "1 lines have no links: the tokenizer's words are not those" in finished.err


def test_lines_to_align_may_come_from_a_pipe(
    warm: WarmCommandLine, guided_folder: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "out").write_text("two one\n")
    writer = threading.Thread(target=(tmp_path / "pipe").write_text, args=("1 2\n",))
    writer.start()
    finished = succeed(warm, "align", guided_folder / "run", "pipe", "out")
    writer.join()
    assert every_line(finished.out) == [true_links("1 2")]


def test_attention_leaves_a_page_arrays_and_pictures(
    warm: WarmCommandLine, guided_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    run, folder = guided_folder / "run", tmp_path / "shown"
    text = b"3 1 2\n\n4 4 1 7\n"
    finished = succeed(warm, "attention", run, "--output", folder, stdin=text)
    assert "line 2 is empty" in finished.err
    assert finished.out == ""
    assert set(PICTURES) <= {path.name for path in folder.iterdir()}
    assert "</html>" in (folder / "attention.html").read_text()
    with np.load(folder / "attention.npz", allow_pickle=False) as arrays:
        assert arrays["0/source"].tolist()[-1] == "</s>"
        assert arrays["1/cross"].shape[:2] == (2, 4)
        assert np.allclose(arrays["1/cross"].sum(-1), 1, atol=1e-4)
    # once more, of fewer sentences: nothing of the earlier ones is left
    succeed(warm, "attention", run, "--output", folder, stdin=b"1\n")
    assert [path.name for path in sorted(folder.glob("*.png"))] == list(PICTURES)


def test_attention_of_given_translations_in_words(
    warm: WarmCommandLine, guided_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").write_text("3 1 2\n")
    (tmp_path / "out").write_text("two one three\n")
    options = ("--references", "out", "--merge-subwords", "--no-pictures", "--output", "shown")
    succeed(warm, "attention", guided_folder / "run", "in", *options)
    with np.load(tmp_path / "shown" / "attention.npz", allow_pickle=False) as arrays:
        assert arrays["0/source"].tolist() == ["3", "1", "2", "</s>"]
        assert arrays["0/target"].tolist() == ["two", "one", "three", "</s>"]
        # guided: the first head of the last layer but one
        assert arrays["0/cross"][0, 0].argmax(-1).tolist()[:3] == [2, 1, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("attention", "RUN", "in", "--layer", "9"), "no layer 9: this model's are 1 to 2"),
        (("attention", "RUN", "in", "--head", "5"), "no head 5: this model's are 1 to 4"),
        (("attention", "RUN", "in", "--references", "two"), "two has 2 lines but in has 1"),
        (("attention", "RUN", "in", "--output", "mine"), "mine: this folder holds other things"),
        (("attention", "RUN", "in", "--output", "in"), "in: this is a file"),
        (("attention", "RUN", "nothing"), "nothing: there is no such file"),
        (("attention", "RUN", "long"), "line 1 is longer than the 63 tokens"),
        (("align", "RUN", "in", "two"), "in has 1 lines but two has 2"),
        (("align", "RUN", "in", "in", "--symmetrise", "grow"), "known: intersection, union"),
        (("align", "RUN", "in", "in", "--reverse", "RUN"), "not the reverse of digits to words"),
        (("align", "RUN", "in", "in", "--set", "decoding.alignment_head=7"), "no head 7"),
        (("translate", "RUN", "in", "--alignments", "no/such/folder"), "no/such"),
        (("translate", "RUN", "in", "--output", "x", "--alignments", "x"), "name the same file"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_or_aligned_is_said(
    warm: WarmCommandLine,
    guided_folder: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    (tmp_path / "in").write_text("1 2\n")
    (tmp_path / "two").write_text("one\ntwo\n")
    (tmp_path / "long").write_text("1 " * 200 + "\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "precious").write_text("x")
    run = str(guided_folder / "run")
    finished = warm(*(run if argument == "RUN" else argument for argument in arguments))
    assert finished.code == 2
    assert message in finished.err
    assert "Traceback" not in finished.err
    assert (tmp_path / "mine" / "precious").read_text() == "x"


def test_a_model_without_attention_is_trained_and_says_that_it_has_none(
    warm: WarmCommandLine, task: Path
) -> None:
    model = "model: {type: rnn, attention: none, embedding_dim: 32, hidden_dim: 48, " \
            "max_positions: 64}\n"  # fmt: skip
    start = TINY_CONFIG.index("model:\n")
    end = TINY_CONFIG.index("training:\n")
    (task / "config.yaml").write_text(TINY_CONFIG[:start] + model + TINY_CONFIG[end:])
    succeed(warm, "prepare", "config.yaml")
    for key in ("coverage_penalty=0.2", "alignment_layer=1"):  # at once, not when first needed
        early = warm("train", "config.yaml", "--set", f"decoding.{key}")
        assert (early.code, "no attention" in early.err) == (2, True)
        assert not list((task / "run" / "checkpoints").glob("*"))
        assert "training rnn" not in early.err
    succeed(warm, "train", "config.yaml")
    assert len(every_line(succeed(warm, "translate", "run", stdin=b"1 2\n").out)) == 1
    for arguments in (
        ("attention", "run", "test.digits"),
        ("align", "run", "test.digits", "test.words"),
        ("translate", "run", "test.digits", "--alignments", "links"),
        ("translate", "run", "test.digits", "--set", "decoding.coverage_penalty=0.2"),
    ):
        finished = warm(*arguments)
        assert finished.code == 2
        assert "this model has no attention over the source" in finished.err

"""`mtrain import`: what it says, what it leaves, and the way there and back."""

import json
import random
from pathlib import Path

import pytest
from safetensors.torch import load_file

from mtrain.data.folders import DataFolder, RunFolder
from mtrain.training.log import read_metrics
from tests.cli.warm import WarmCommandLine
from tests.conftest import every_line, succeed
from tests.contract.layouts import LAYOUTS, WORDS


def test_a_folder_becomes_a_run_and_is_checked(trained: WarmCommandLine, tmp_path: Path) -> None:
    """Without a text the lines are made up."""
    (tmp_path / "opus").mkdir()
    write, options = LAYOUTS["marian"]
    write(tmp_path / "opus")
    run = tmp_path / "runs" / "opus"
    said = succeed(trained, "import", tmp_path / "opus", run, *options)
    assert "greedy search 48 alike, 0 of equal score, 0 others" in said.err
    assert f"model: {{init_from: {run}}}" in said.err
    assert not said.out
    assert [path.name for path in run.parent.iterdir()] == ["opus"]
    lines = succeed(trained, "translate", run, stdin=b"one two\nten\n").out.split("\n")
    assert len(lines) == 3
    refused = trained("train", run / "config.yaml")
    assert refused.code == 2
    assert "data.train: names no corpus" in refused.err


TUNE = """\
run_dir: tuned
data:
  source_lang: en
  target_lang: de
  train: [{source: train.en, target: train.de}]
  valid: [{source: valid.en, target: valid.de}]
  test: [{source: valid.en, target: valid.de}]
  filters: {drop_overlap: false, max_tokens: 60}
model: {init_from: imported}
training: {max_updates: 60, valid_every: 60, batch_tokens: 200, warmup_updates: 5, log_every: 10}
"""


@pytest.mark.parametrize("layout", ["marian", "m2m100"])
def test_an_imported_run_is_tuned(warm: WarmCommandLine, layout: str) -> None:
    """Prefixes and one vocabulary in two models are taken over; it learns, and translates."""
    folder = warm.folder
    (folder / "model").mkdir()
    write, options = LAYOUTS[layout]
    write(folder / "model")
    succeed(warm, "import", "model", "imported", *options)
    for name, count in (("train", 200), ("valid", 20)):
        places = [[random.Random(row).randrange(10) for row in range(line, line + 3)]
                  for line in range(count)]  # fmt: skip
        for side, language in (("source", "en"), ("target", "de")):
            lines = [" ".join(WORDS[side][place] for place in line) for line in places]
            (folder / f"{name}.{language}").write_text("\n".join(lines) + "\n")
    (folder / "tune.yaml").write_text(TUNE)
    succeed(warm, "prepare", "tune.yaml")
    said = succeed(warm, "train", "tune.yaml").err
    assert "initialised from imported (update 0): copied 100.0% of" in said
    stored = DataFolder(folder / "tuned" / "data").store("train").target.row(0)
    prefix = {"marian": [], "m2m100": ["__de__"]}[layout]
    target = RunFolder(folder / "tuned").tokenizers().target
    assert target.pieces(stored)[: len(prefix)] == prefix
    out = succeed(warm, "translate", "tuned", "valid.en").out
    assert len(every_line(out)) == 20
    assert not any(tag in out for tag in ("__de__", ">>", "<pad>"))
    losses = [event["loss"] for event in read_metrics(folder / "tuned" / "metrics.jsonl")
              if event["kind"] == "train"]  # fmt: skip
    assert losses[-1] < losses[0]
    refused = warm("export", "tuned", "out", "--to", "huggingface")
    assert "huggingface cannot hold a model with tokenizer.source_prefix" in refused.err
    assert succeed(warm, "export", "tuned", "ct2", "--to", "ctranslate2").err.count("alike") == 2


def test_an_export_comes_back_as_the_same_model(trained: WarmCommandLine, tmp_path: Path) -> None:
    succeed(trained, "export", "run", tmp_path / "out", "--to", "huggingface")
    sample = trained.folder / "test.digits"
    said = succeed(trained, "import", tmp_path / "out", tmp_path / "back", "--sample", sample)
    assert "greedy search 60 alike, 0 of equal score, 0 others" in said.err
    (before,) = sorted((trained.folder / "run" / "checkpoints").glob("*/model.safetensors"))[-1:]
    (after,) = (tmp_path / "back" / "checkpoints").glob("*/model.safetensors")
    ours, theirs = load_file(before), load_file(after)
    assert ours.keys() == theirs.keys()
    score = [succeed(trained, "translate", run, sample).out for run in ("run", tmp_path / "back")]
    assert score[0] == score[1]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("nobody/nothing-at-all", "and the Hub says"),
        ("no--such", "and the Hub says"),
        ("no/such/folder", "there is no such folder"),
        ("test.digits", "this is a file"),
        ("run", "config.json: there is no such file"),
    ],
)
def test_what_is_no_model_is_refused(
    trained: WarmCommandLine, tmp_path: Path, model: str, says: str
) -> None:
    finished = trained("import", model, tmp_path / "new")
    assert finished.code == 2
    assert says in finished.err
    assert not list(tmp_path.iterdir())


def test_what_the_search_here_lacks_is_told_and_left_out_of_the_check(
    warm: WarmCommandLine,
) -> None:
    folder = warm.folder / "model"
    folder.mkdir()
    write, options = LAYOUTS["marian"]
    write(folder)
    path = folder / "generation_config.json"
    settings = {"no_repeat_ngram_size": 2, "repetition_penalty": 1.3}
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    (warm.folder / "empty").touch()
    refused = warm("import", "model", "with $dollar", *options, "--sample", "empty")
    assert refused.code == 2
    assert "empty: this file is empty" in refused.err
    said = succeed(warm, "import", "model", "with $dollar", *options)
    assert "mtrain's search has no such thing: no_repeat_ngram_size, repetition" in said.err
    assert "0 others; beam" in said.err
    assert succeed(warm, "translate", "with $dollar", stdin=b"one\n").out
    succeed(warm, "export", "with $dollar", "ct2", "--to", "ctranslate2")


def test_a_run_that_exists_is_left_alone(trained: WarmCommandLine) -> None:
    finished = trained("import", "anything", "run")
    assert finished.code == 2
    assert "run: this already exists" in finished.err


@pytest.mark.parametrize("layout", ["m2m100", "nllb"])
def test_an_imported_model_takes_the_languages_of_its_vocabulary(
    layout: str, warm: WarmCommandLine
) -> None:
    (warm.folder / "model").mkdir()
    write, options = LAYOUTS[layout]
    write(warm.folder / "model")
    succeed(warm, "import", "model", "run", *options)
    source, target = options[options.index("--source-lang") + 1], options[
        options.index("--target-lang") + 1]  # fmt: skip
    text = b"one two\nten nine three\n"
    said = succeed(warm, "translate", "run", stdin=text).out
    same = ("--source-lang", source, "--target-lang", target)
    assert succeed(warm, "translate", "run", *same, stdin=text).out == said
    other = succeed(warm, "translate", "run", "--target-lang", source, stdin=text).out
    assert other != said
    plain = {"m2m100": source, "nllb": source.split("_")[0]}[layout]  # eng for eng_Latn
    assert succeed(warm, "translate", "run", "--target-lang", plain, stdin=text).out == other
    lacking = {"m2m100": "eo", "nllb": "tlh_Latn"}[layout]
    refused = warm("translate", "run", "--target-lang", lacking, stdin=text)
    assert refused.code == 2
    assert (
        f"its vocabulary has no piece {'__eo__' if layout == 'm2m100' else lacking}; it has "
        in refused.err
    )

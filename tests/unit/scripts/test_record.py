"""The record's entry: three honest runs make one, and each rule is enforced."""

import importlib
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from mtrain.commands.train import train
from tests.in_process import small_config

SCRIPTS = Path(__file__).parents[3] / "scripts" / "record"
SIDES = ("digits", "words")


@pytest.fixture(name="entry")
def record_entry(small_task: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, for which the small task is the record's text."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    module = importlib.import_module("entry")
    texts = {
        name: tuple(module.text_digest(small_task / f"{name}.{side}") for side in SIDES)
        for name in ("train", "valid")
    }
    monkeypatch.setattr(module, "TEXTS", texts)
    return module


@pytest.fixture(scope="module")
def trained(small_task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was validated."""
    run_dir = tmp_path_factory.mktemp("record") / "run"
    train(small_config(small_task, run_dir))
    change(
        run_dir, "source_lang: digits\n  target_lang: words", "source_lang: en\n  target_lang: de"
    )
    return run_dir


@pytest.fixture(name="runs")
def three_runs(trained: Path, tmp_path: Path) -> list[Path]:
    """The same run as of three seeds, with a BLEU reached at a minute of each."""
    runs = [tmp_path / f"run{seed}" for seed in (1, 2, 3)]
    for seed, run in enumerate(runs, start=1):
        shutil.copytree(trained, run)
        change(run, "seed: 1\n", f"seed: {seed}\n")
        (run / "metrics.jsonl").write_text(
            '{"kind": "train", "update": 1, "minutes": 0.5}\n'
            f'{{"kind": "valid", "update": 1, "minutes": {seed}.25, "bleu": 20.0}}\n'
            f'{{"kind": "valid", "update": 2, "minutes": {2 * seed}.5, "bleu": 36.0}}\n'
            f'{{"kind": "valid", "update": 3, "minutes": 30.0, "bleu": 37.5}}\n'
        )
    return runs


def change(run: Path, old: str, new: str, name: str = "config.yaml") -> None:
    """Replace what must be there in a file of a run."""
    text = (run / name).read_text("utf-8")
    assert old in text
    (run / name).write_text(text.replace(old, new), "utf-8")


def call(entry: ModuleType, logs: Path, *arguments: object) -> None:
    """Run the script with arguments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["entry.py", "name", *map(str, arguments), "--logs", str(logs)])
        entry.main()


def test_three_seeds_that_get_there_are_an_entry_with_its_logs(
    entry: ModuleType, runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(entry, tmp_path / "logs", *runs)
    told = capsys.readouterr().out
    assert "minutes to dev BLEU 36: 2.50 4.50 6.50, median 4.50" in told
    assert "best dev BLEU: 37.50 37.50 37.50" in told
    for seed, run in enumerate(runs, start=1):
        published = tmp_path / "logs" / f"name.seed{seed}.jsonl"
        assert published.read_bytes() == (run / "metrics.jsonl").read_bytes()


def prepare_from_other_text(run: Path) -> None:
    """Make it a run on data that were prepared from text which is there no more."""
    found = re.search("data_dir: (.*)", (run / "config.yaml").read_text("utf-8"))
    assert found
    other = run.with_name("other-data")
    shutil.copytree(found[1], other)
    manifest = json.loads((other / "manifest.json").read_text("utf-8"))
    manifest["inputs"][0]["sha256"] = "0" * 64
    (other / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    change(run, found[0], f"data_dir: {other}")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "a seed twice": (lambda run: change(run, "seed: 3\n", "seed: 2\n"), "3 runs of 3 seeds"),
    "other settings": (lambda run: change(run, "dropout: ", "dropout: 0.9 # "), "settings are not"),
    "too bad": (
        lambda run: [change(run, bleu, "35.9", "metrics.jsonl") for bleu in ("36.0", "37.5")],
        "dev BLEU 35.90 at best, not 36.0",
    ),
    "other text": (lambda run: change(run, "train.digits", "valid.digits"), "data.train is not"),
    "a table as well": (
        lambda run: change(run, "  train:\n", "  train:\n  - path: more.tsv\n"),
        "data.train is not",
    ),
    "links of others": (
        lambda run: change(run, "alignments: null", "alignments: links"),
        "data.train is not",
    ),
    "other side": (
        lambda run: change(run, "source_lang: en", "source_lang: de"),
        "does not translate from en to de",
    ),
    "only as an average": (
        lambda run: [
            change(run, f'"bleu": {bleu}', f'"bleu": {bleu}, "averaged": 5', "metrics.jsonl")
            for bleu in ("36.0", "37.5")
        ],
        "dev BLEU 20.00 at best",
    ),
    "other text before": (prepare_from_other_text, "was prepared from other text"),
    "a given tokenizer": (
        lambda run: change(run, "  path: null", "  path: other.model"),
        "its tokenizer was given",
    ),
    "no validation": (
        lambda run: change(run, '"kind": "valid"', '"kind": "test"', "metrics.jsonl"),
        "never validated",
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_rule_is_told_and_nothing_published(
    broken: str,
    entry: ModuleType,
    runs: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage, said = BROKEN[broken]
    damage(runs[2])
    with pytest.raises(SystemExit, match="2"):
        call(entry, tmp_path / "logs", *runs)
    assert said in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


def test_a_name_is_not_given_twice(
    entry: ModuleType, runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(entry, tmp_path / "logs", *runs)
    with pytest.raises(SystemExit, match="2"):
        call(entry, tmp_path / "logs", *runs)
    assert "has logs of the name name" in capsys.readouterr().err


def test_two_runs_are_no_entry(entry: ModuleType, runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        call(entry, tmp_path / "logs", *runs[:2])

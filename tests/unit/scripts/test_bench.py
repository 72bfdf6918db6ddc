"""Test scripts/bench.py on the small task: it measures, tells, and leaves the run alone."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TINY_CONFIG, CommandLine, succeed, write_task

SCRIPT = Path(__file__).parents[3] / "scripts" / "bench.py"
POSITIVE = {
    "training": {
        "target_tokens_per_second",
        "lower_quartile",
        "upper_quartile",
        "updates",
        "busy_processors",
        "peak_memory_gb",
        "gflop_per_second",
        "attainable_gflop_per_second",
        "share_of_attainable",
    },
    "beam": {"sentences_per_second", "tokens_per_second"},
    "greedy": {"sentences_per_second", "tokens_per_second"},
}


def bench(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the yardstick for a moment on the configuration in a folder."""
    brief = ["--seconds", "0.5", "--sentences", "7"]
    return subprocess.run(
        [sys.executable, str(SCRIPT), "config.yaml", *brief, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def measured(folder: Path, *arguments: str) -> tuple[dict[str, Any], str]:
    """Return the JSON of a run of the yardstick that must succeed, and its stdout."""
    finished = bench(folder, *arguments, "--json", "bench.json")
    assert finished.returncode == 0, finished.stderr
    return json.loads((folder / "bench.json").read_text("utf-8")), finished.stdout


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small task, prepared and not trained."""
    folder = tmp_path_factory.mktemp("bench")
    write_task(folder, {"train": 500, "valid": 20, "test": 20})
    (folder / "config.yaml").write_text(TINY_CONFIG)
    succeed(CommandLine(folder), "prepare", "config.yaml")
    return folder


@pytest.fixture(scope="module")
def report(prepared: Path) -> dict[str, Any]:
    """What the yardstick finds on the untrained model, and as `table` what it prints."""
    before = content(prepared / "run")
    report, table = measured(prepared, "--set", "decoding.beam_size=2")
    assert content(prepared / "run") == before
    return report | {"table": table}


def test_every_figure_is_positive_and_printed(report: dict[str, Any]) -> None:
    for part, names in POSITIVE.items():
        assert {name for name in names if report[part][name] > 0} == names
        assert {name for name in report[part] if name not in report["table"]} == set()
    assert 0 <= report["training"]["share_waiting_for_data"] <= 1


def test_it_says_what_was_measured(report: dict[str, Any]) -> None:
    assert report["beam"]["weights"] == report["greedy"]["weights"] == "random"
    assert (report["beam"]["beam_size"], report["greedy"]["beam_size"]) == (2, 1)
    assert report["beam"]["sentences"] == 7
    assert report["machine"]["threads"] == 1
    assert report["overrides"] == ["decoding.beam_size=2"]


def test_a_token_costs_what_the_shapes_say(report: dict[str, Any], prepared: Path) -> None:
    """Of two encoder and two decoder layers of TINY_CONFIG, counted by hand."""
    train = json.loads((prepared / "run/data/manifest.json").read_text())["splits"]["train"]
    source, target = (train["tokens"][side] + train["pairs"] for side in ("source", "target"))
    encoder = 2 * (4 * 64 * 64 + 2 * 64 * 128) + 2 * (2 * 64 * 64)  # with the decoder's memory
    decoder = 2 * (6 * 64 * 64 + 2 * 64 * 128) + train["vocab_size"] * 64
    training = report["training"]
    found = training["gflop_per_second"] * 1e9 / training["target_tokens_per_second"]
    assert found == pytest.approx(6 * (decoder + encoder * source / target), rel=0.02)


def test_it_translates_with_the_best_checkpoint(prepared: Path) -> None:
    command = CommandLine(prepared)
    changes = ["--set", "run_dir=trained", "--set", "data_dir=run/data"]
    succeed(command, "train", "config.yaml", *changes, "--set", "training.max_updates=3")
    report, _ = measured(prepared, *changes)
    assert report["beam"]["weights"] == "trained/checkpoints/update-00000003"


def test_without_prepared_data_it_says_what_to_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(TINY_CONFIG)
    finished = bench(tmp_path, "--json", "bench.json")
    assert finished.returncode == 2
    assert "mtrain prepare" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert not (tmp_path / "bench.json").exists()

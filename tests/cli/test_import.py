"""`mtrain import`: what it says, what it leaves, and the way there and back."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.cli.warm import WarmCommandLine
from tests.conftest import succeed
from tests.contract.layouts import LAYOUTS


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
        ("no/such/folder", "there is no such folder"),
        ("test.digits", "this is a file"),
        ("run", "config.json: there is no such file"),
    ],
)
def test_what_is_no_model_is_refused(
    trained: WarmCommandLine, tmp_path: Path, model: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = trained("import", model, tmp_path / "new")
    assert finished.code == 2
    assert says in finished.err
    assert not list(tmp_path.iterdir())


def test_a_run_that_exists_is_left_alone(trained: WarmCommandLine) -> None:
    finished = trained("import", "anything", "run")
    assert finished.code == 2
    assert "run: this already exists" in finished.err

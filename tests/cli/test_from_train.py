"""Held-out sets taken from train, through the verbs: prepare, train, resume, score, moved files."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import contents
from tests.cli.warm import WarmCommandLine
from tests.conftest import TINY_CONFIG, succeed

GIVEN = """\
  valid: [{source: valid.digits, target: valid.words}]
  test: [{name: held-out, source: test.digits, target: test.words}]
"""
TAKEN = """\
  valid: {from_train: 40}
  test: {from_train: 30}
"""


@pytest.fixture
def folder(task: Path) -> Path:
    """The small task with nothing but training text."""
    for path in (*task.glob("valid.*"), *task.glob("test.*")):
        path.unlink()
    assert GIVEN in TINY_CONFIG
    (task / "config.yaml").write_text(TINY_CONFIG.replace(GIVEN, TAKEN))
    return task


def test_one_corpus_is_enough_for_all_verbs(warm: WarmCommandLine, folder: Path) -> None:
    report = succeed(warm, "prepare", "config.yaml").out
    assert "train    1,930 pairs kept of 2,000 read" in report
    assert "valid    40 pairs taken from train" in report
    assert "test     30 pairs taken from train in test" in report
    assert "70 dropped: held_out, for example" in report
    text = contents(folder / "run" / "data" / "text")
    sources = [set(text[f"{name}.source"].splitlines()) for name in ("valid", "test")]
    assert list(map(len, sources)) == [40, 30]
    assert not sources[0] & sources[1]

    half = ("--set", "training.max_updates=20")
    succeed(warm, "train", "config.yaml", *half)
    assert "resuming from" in succeed(warm, "train", "config.yaml").err
    (scored,) = json.loads(succeed(warm, "score", "run", "--json").out)["sets"]
    assert (scored["name"], scored["sentences"]) == ("test", 30)

    before = contents(folder / "run" / "data")
    again = succeed(warm, "prepare", "config.yaml")
    assert "nothing changed, nothing to do" in again.err
    assert again.out == report
    (folder / "elsewhere").mkdir()
    for path in folder.glob("train.*"):
        path.rename(folder / "elsewhere" / path.name)
    config = (folder / "config.yaml").read_text().replace(": train.", ": elsewhere/train.")
    (folder / "config.yaml").write_text(config)
    longer = ("--set", "training.max_updates=60")
    assert "resuming from" in succeed(warm, "train", "config.yaml", *longer).err
    assert "nothing changed" in succeed(warm, "prepare", "config.yaml").err
    after = contents(folder / "run" / "data")
    assert [name for name in before if before[name] != after[name]] == ["manifest.json"]  # paths


@pytest.mark.parametrize("key", ["data.valid", "data.test"])
def test_a_run_never_goes_on_with_another_choice(
    key: str, warm: WarmCommandLine, folder: Path
) -> None:
    succeed(warm, "prepare", "config.yaml")
    succeed(warm, "train", "config.yaml", "--set", "training.max_updates=2")
    before = contents(folder)
    for verb in ("prepare", "train"):
        refused = warm(verb, "config.yaml", "--set", f"{key}.from_train=41")
        assert refused.code == 2
        assert f"{key}.from_train: " in refused.err
        assert contents(folder) == before


def test_too_many_are_refused_with_nothing_half_written(
    warm: WarmCommandLine, folder: Path
) -> None:
    before = contents(folder)
    refused = warm("prepare", "config.yaml", "--set", "data.test.from_train=961")
    assert refused.code == 2
    assert "Traceback" not in refused.err
    assert "data.train has 2,000 different sources" in refused.err
    assert "ask for 1,000 or less together" in refused.err
    left = {name: content for name, content in contents(folder).items() if "lock" not in name}
    assert left == before


def test_a_watch_set_cannot_be_called_as_the_test_set_is(
    warm: WarmCommandLine, folder: Path
) -> None:
    watch = "data.watch=[{name: test, path: x.tsv}]"
    refused = warm("prepare", "config.yaml", "--set", watch)
    assert "a watch and a test set are called test: give each its own `name`" in refused.err

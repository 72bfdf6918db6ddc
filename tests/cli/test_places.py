"""Where files lie: corpora that have moved, relative paths, variables in paths."""

import json
from pathlib import Path

from tests.cli.conftest import contents
from tests.cli.warm import WarmCommandLine
from tests.conftest import TINY_CONFIG, succeed


def move(task: Path) -> str:
    """Move all corpora of the small task into a folder; return the configuration that says so."""
    (task / "moved").mkdir()
    config = TINY_CONFIG
    for path in (*task.glob("*.digits"), *task.glob("*.words")):
        path.rename(task / "moved" / f"new-{path.name}")
        config = config.replace(f": {path.name}", f": moved/new-{path.name}")
    return config


def test_equal_content_at_another_place_is_the_same_data(task: Path, warm: WarmCommandLine) -> None:
    succeed(warm, "prepare", "config.yaml")
    succeed(warm, "train", "config.yaml", "--set", "training.max_updates=2")
    (task / "moved.yaml").write_text(move(task))
    again = succeed(warm, "train", "moved.yaml", "--set", "training.max_updates=3")
    assert "resuming from run/checkpoints/update-00000002" in again.err
    assert "nothing to do" in succeed(warm, "prepare", "moved.yaml").err
    manifest = json.loads((task / "run/data/manifest.json").read_text())
    assert manifest["inputs"][0]["path"] == "moved/new-train.digits"
    assert manifest["settings"]["data"]["valid"][0]["source"] == "moved/new-valid.digits"

    before = contents(task / "run")
    held = {}
    for name in ("train.digits", "valid.words"):
        path = task / "moved" / f"new-{name}"
        (task / "moved" / f"other-{name}").write_bytes(path.read_bytes() + b"1\n")
        held[name] = (task / "moved.yaml").read_text().replace(f"new-{name}", f"other-{name}")
    held["nowhere"] = held["train.digits"].replace("other-train", "nowhere-train")
    for name, config in held.items():
        (task / "other.yaml").write_text(config)
        for verb in ("prepare", "train"):
            refused = warm(verb, "other.yaml")
            assert refused.code == 2, name
            if name == "nowhere":
                assert f"moved/nowhere-train.digits: there is no such file (looked in {task})" in (
                    refused.err
                )
                continue
            key = "data.valid.0.target" if "valid" in name else "data.train.0.source"
            assert f"\n  {key}: 'moved/new-" in refused.err
            assert len(refused.err.splitlines()) == 3, refused.err
    assert contents(task / "run") == before


def test_relative_paths_begin_at_the_working_directory(task: Path, warm: WarmCommandLine) -> None:
    succeed(warm, "prepare", "config.yaml")
    (task / "out").mkdir()
    warm.folder = task / "out"
    refused = warm("train", "../config.yaml")
    assert refused.code == 2
    assert f"{task}/out/run/data: no prepared data here; relative paths begin at the working" in (
        refused.err
    )
    assert "../run/data has some" in refused.err
    assert "cd .. and run: mtrain train config.yaml" in refused.err
    warm.folder = task
    done = warm("train", "config.yaml", "--check")  # as the hint says
    assert done.code == 0, done.err
    (task / "elsewhere").mkdir()
    for command, said in (
        (("prepare", "nowhere.yaml"), f"(looked in {task})"),
        (("translate", "nowhere"), f"there is no such run folder (looked in {task})"),
        (("train", "config.yaml", "--set", "run_dir=$NO_SUCH"), "--set run_dir: run_dir: $NO_SUCH"),
        (("train", "config.yaml", "--set", "run_dir=new"), f"{task}/new/data: no prepared data"),
    ):
        refused = warm(*command)
        assert refused.code == 2
        assert said in refused.err

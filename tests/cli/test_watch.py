"""`data.watch` on the command line: told at each validation, by one process or two; resume."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mtrain.checkpoints.collection import list_checkpoints
from mtrain.checkpoints.format import read_state
from tests.cli.test_resume import SMALL, as_options, digests, events
from tests.cli.test_torchrun import run_two
from tests.cli.warm import WarmCommandLine
from tests.conftest import TINY_CONFIG, every_line, succeed, write_task

SETTINGS = as_options(*SMALL, "training.max_updates=8", "training.valid_every=4")
SAME = "{name: same, source: valid.digits, target: valid.words}"
WATCHED = TINY_CONFIG.replace("  test:", f"  watch: [{SAME}]\n  test:")
NEWEST = "run/checkpoints/update-00000008"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, server: None) -> Path:
    """The small task with a watch set, prepared."""
    folder = tmp_path_factory.mktemp("watch")
    write_task(folder, {"train": 1000, "valid": 21, "test": 2, "general": 5})
    (folder / "config.yaml").write_text(WATCHED)
    with closing(WarmCommandLine(folder)) as warm:
        told = succeed(warm, "prepare", "config.yaml").out
        assert "watch    21 pairs in same\n" in told
    return folder


@pytest.fixture
def watching(prepared: Path, tmp_path: Path, server: None) -> Iterator[WarmCommandLine]:
    """The command line beside a copy of the task."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    with closing(WarmCommandLine(tmp_path)) as command_line:
        yield command_line


def test_a_watch_set_is_told_beside_valid(watching: WarmCommandLine) -> None:
    done = succeed(watching, "train", "config.yaml", *SETTINGS)
    event = events(watching.folder / "run", "valid")[-1]
    assert event["watch"] == {"same": {key: event[key] for key in ("loss", "bleu", "chrf")}}
    shown = f"; watch same: loss {event['loss']:.3f}, BLEU {event['bleu']:.2f}\n"
    assert shown in done.err
    header, _, row, *_ = every_line(done.out)
    assert header.split()[-4:] == ["same", "loss", "BLEU", "chrF"]
    assert row.split()[-3:] == row.split()[2:5]
    check = succeed(watching, "train", "config.yaml", "--check", "--set", "run_dir=other",
                    "--set", "data_dir=run/data")  # fmt: skip
    assert "s for data.watch" in check.out


def test_two_processes_share_a_watch_set_as_they_share_valid(watching: WarmCommandLine) -> None:
    """21 sentences, and one for two processes."""
    folder = watching.folder
    (folder / "one.tsv").write_text("1 2 3\tthree two one\n")
    config = WATCHED.replace(f"[{SAME}]", f"[{SAME}, {{path: one.tsv}}]")
    (folder / "config.yaml").write_text(config)
    succeed(watching, "prepare", "config.yaml")
    both = run_two(folder, "train", "config.yaml", *SETTINGS, "--set", "training.accumulate=2")
    assert [one.code for one in both] == [0, 0], both[0].err + both[1].err
    found = events(folder / "run", "valid")
    assert len(found) == 2
    for event in found:
        assert event["watch"]["same"] == {key: event[key] for key in ("loss", "bleu", "chrf")}
        assert event["watch"]["watch"]["loss"] > 0


def test_a_run_resumes_with_other_watch_sets_and_learns_the_same(
    watching: WarmCommandLine,
) -> None:
    """Even where train has moved as well. A run that never watched ends in the same bits."""
    folder = watching.folder
    settings = (*SETTINGS, "--set", "training.schedule=inverse_sqrt")
    half = ("--set", "training.max_updates=4")
    succeed(watching, "train", "config.yaml", *settings, *half)
    *_, newest = list_checkpoints(folder / "run/checkpoints")
    assert "watch" in read_state(newest)["validation"]

    (folder / "train.digits").rename(folder / "moved.digits")
    general = "{name: general, source: general.digits, target: general.words}"
    config = WATCHED.replace(SAME, general).replace("train.digits", "moved.digits")
    (folder / "config.yaml").write_text(config)
    refused = watching("train", "config.yaml", *settings)
    assert refused.code == 2
    assert "data.watch.0.name: 'same' -> 'general'" in refused.err
    succeed(watching, "prepare", "config.yaml", *settings)
    done = succeed(watching, "train", "config.yaml", *settings)
    assert "resuming from run/checkpoints/update-00000004" in done.err
    watched = [list(event["watch"]) for event in events(folder / "run", "valid")]
    assert watched == [["same"], ["general"]]
    assert every_line(done.out)[1].split()[-3:] == ["-"] * 3

    plain = ("--set", "run_dir=plain", "--set", "data.watch=[]")
    succeed(watching, "prepare", "config.yaml", *settings, *plain)
    succeed(watching, "train", "config.yaml", *settings, *plain)
    assert digests(folder / NEWEST) == digests(folder / NEWEST.replace("run/", "plain/"))


def test_a_damaged_store_of_a_watch_set_is_refused_with_a_way_that_works(
    watching: WarmCommandLine,
) -> None:
    store = watching.folder / "run/data/watch-same/source.tokens"
    content = bytearray(store.read_bytes())
    content[0] ^= 1
    store.write_bytes(content)
    refused = watching("train", "config.yaml", *SETTINGS)
    assert refused.code == 2
    assert "run/data/watch-same: the token store is damaged" in refused.err
    assert "remove run/data and run `mtrain prepare` again" in refused.err

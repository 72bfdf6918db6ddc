"""Corpora mixed by weights and in stages, on the command line: order, resume, processes."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mtrain.checkpoints.collection import list_checkpoints
from tests.cli.test_resume import SMALL, as_options, digests, events
from tests.cli.test_torchrun import run_two
from tests.cli.warm import WarmCommandLine
from tests.conftest import TINY_CONFIG, succeed, write_task

LAST = "checkpoints/update-00000030"
CORPORA = """
    - {name: web, source: web.digits, target: web.words}
    - {name: clean, source: train.digits, target: train.words}"""
ONE = "[{source: train.digits, target: train.words}]"
STAGES = "[{mix: {web: 1}, until: 8}, {mix: {web: 1, clean: 3}, plateau: 1}, {mix: {clean: 1}}]"
SETTINGS = as_options(*SMALL, "training.max_updates=30", "training.keep_last=20",
                      "training.valid_every=8", "training.accumulate=2",
                      f"data.stages={STAGES}")  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, server: None) -> Path:
    """The small task with two corpora, prepared."""
    folder = tmp_path_factory.mktemp("mixture")
    write_task(folder, {"train": 300, "valid": 21, "test": 2, "web": 500})
    (folder / "config.yaml").write_text(TINY_CONFIG.replace(ONE, CORPORA))
    with closing(WarmCommandLine(folder)) as warm:
        succeed(warm, "prepare", "config.yaml")
    return folder


@pytest.fixture
def mixing(prepared: Path, tmp_path: Path, server: None) -> Iterator[WarmCommandLine]:
    """The command line beside a copy of the task."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    with closing(WarmCommandLine(tmp_path)) as command_line:
        yield command_line


def test_a_run_resumes_in_any_stage_as_if_it_had_not_stopped(mixing: WarmCommandLine) -> None:
    done = succeed(mixing, "train", "config.yaml", *SETTINGS)
    assert "mix of stage 1: web 100.0%\n" in done.err
    assert "mix of stage 2: clean 75.0%, web 25.0%\n" in done.err
    assert "update 8: stage 2 of 3\n" in done.err
    run = mixing.folder / "run"
    begun = {event["stage"]: event["update"] for event in events(run, "stage")}
    # the first validation has no better one before it; the stage ends at the first that is no best
    valid = {event["update"]: event["bleu"] for event in events(run, "valid")}
    ends = next((update for update in sorted(valid) if update > 8
                 and valid[update] <= max(valid[earlier] for earlier in valid if earlier < update)),
                None)  # fmt: skip
    assert begun == {2: 8} | ({3: ends} if ends is not None and ends < 30 else {})
    wanted, losses = digests(run / LAST), [event["loss"] for event in events(run, "train")]
    newest = list_checkpoints(run / "checkpoints")
    for update in (8, 21):  # at the end of a stage, and within one
        for path in newest:
            if int(path.name.split("-")[1].split(".")[0]) > update:
                shutil.rmtree(path, ignore_errors=True)
        assert f"update-{update:08}" in [
            path.name for path in list_checkpoints(run / "checkpoints")
        ]
        resumed = succeed(mixing, "train", "config.yaml", *SETTINGS)
        assert f"resuming from run/checkpoints/update-{update:08}" in resumed.err
        assert digests(run / LAST) == wanted
        assert [event["loss"] for event in events(run, "train")] == losses


def test_two_processes_train_in_the_order_of_one(mixing: WarmCommandLine) -> None:
    succeed(mixing, "train", "config.yaml", *SETTINGS)
    alone = events(mixing.folder / "run", "train")
    shutil.rmtree(mixing.folder / "run" / "checkpoints")
    (mixing.folder / "run" / "metrics.jsonl").unlink()
    first, second = run_two(mixing.folder, "train", "config.yaml", *SETTINGS)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    both = events(mixing.folder / "run", "train")
    # up to the second stage's end, which validation decides
    assert [event["target_tokens"] for event in both[:16]] == [
        event["target_tokens"] for event in alone[:16]
    ]
    assert [event["loss"] for event in both[:8]] == pytest.approx(
        [event["loss"] for event in alone[:8]], rel=1e-4
    )


def test_patience_waits_for_the_last_stage(mixing: WarmCommandLine) -> None:
    """A learning rate of nothing gives no better score, and stages do not end the run."""
    stages = "data.stages=[{mix: {web: 1}, plateau: 2}, {mix: {web: 1, clean: 1}, until: 12}, " \
             "{mix: {clean: 1}}]"  # fmt: skip
    still = as_options("training.valid_every=2", "training.patience=2", "training.save_every=2",
                       "training.learning_rate=1e-12", stages)  # fmt: skip
    done = succeed(mixing, "train", "config.yaml", *SETTINGS[:-2], *still)
    begun = [(event["stage"], event["update"]) for event in events(mixing.folder / "run", "stage")]
    assert begun == [(2, 6), (3, 12)]
    assert "finished: 16 updates" in done.err
    for path in list_checkpoints(mixing.folder / "run" / "checkpoints"):
        if int(path.name.split("-")[1].split(".")[0]) > 6:
            shutil.rmtree(path)
    succeed(mixing, "train", "config.yaml", *SETTINGS[:-2], *still)
    again = [(event["stage"], event["update"]) for event in events(mixing.folder / "run", "stage")]
    assert again == begun


def test_another_mix_needs_no_new_data_but_a_new_run(mixing: WarmCommandLine) -> None:
    succeed(mixing, "train", "config.yaml", *SETTINGS, "--set", "training.max_updates=9")
    weights = ("--set", "data.train.0.weight=1", "--set", "data.train.1.weight=3")
    refused = mixing("train", "config.yaml", *SETTINGS[:-2], *weights)
    assert refused.code == 2
    assert "data.train.0.weight: None -> 1.0" in refused.err
    other = ("--set", "run_dir=other", "--set", "data_dir=run/data")
    done = succeed(mixing, "train", "config.yaml", *SETTINGS[:-2], *weights, *other)
    assert "mix: clean 75.0%, web 25.0%\n" in done.err
    again = succeed(mixing, "prepare", "config.yaml", *SETTINGS[:-2], *weights, *other)
    assert "nothing changed" in again.err

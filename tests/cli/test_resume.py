"""A run that was stopped and gone on with ends in the same bits as one that never was.

Whatever stopped it: a signal that lets it save, or a kill that does not.
"""

import fcntl
import hashlib
import json
import os
import pty
import shutil
import signal
import termios
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from mtrain.checkpoints.collection import list_checkpoints
from mtrain.checkpoints.format import load_checkpoint
from tests.cli.warm import WarmCommandLine, WarmProcess
from tests.conftest import TINY_CONFIG, CommandLine, succeed, write_task

UPDATES = 40
SMALL = (
    *("model.d_model=32", "model.ffn_dim=64", "model.dropout=0.3", "model.attention_dropout=0.1"),
    *("training.batch_tokens=128", f"training.max_updates={UPDATES}", "training.log_every=1"),
    *("training.valid_every=20", "training.save_every=3", "training.precision=fp32", "device=cpu"),
    "decoding.max_length_ratio=1",
)
VARIANTS = {
    "plain": (),
    "accumulated, resegmented, averaged": (
        *("training.accumulate=2", "training.subword_sampling=0.2", "training.ema_decay=0.9"),
        "training.schedule=inverse_sqrt",
    ),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, server: None) -> Path:
    """The small task, prepared."""
    folder = tmp_path_factory.mktemp("resume")
    write_task(folder, {"train": 2000, "valid": 20, "test": 2})
    (folder / "config.yaml").write_text(TINY_CONFIG)
    with closing(WarmCommandLine(folder)) as warm:
        succeed(warm, "prepare", "config.yaml")
    return folder


@pytest.fixture(scope="module", params=VARIANTS)
def undisturbed(
    request: pytest.FixtureRequest, prepared: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[tuple[str, ...], Path]:
    """Settings, and the run folder that training with them without a stop leaves."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(prepared, folder, dirs_exist_ok=True)
    settings = as_options(*SMALL, *VARIANTS[request.param])
    with closing(WarmCommandLine(folder)) as warm:
        succeed(warm, "train", "config.yaml", *settings)
    return settings, folder / "run"


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    """The prepared task, in the test's own folder."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return tmp_path


def as_options(*settings: str) -> tuple[str, ...]:
    """Return `--set` for each setting."""
    return tuple(word for setting in settings for word in ("--set", setting))


def events(run: Path, kind: str) -> list[dict[str, Any]]:
    """Return what metrics.jsonl says, without what depends on the clock."""
    path = run / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    clocks = {"minutes", "tokens_per_second", "share_waiting_for_data"}
    return [
        {key: value for key, value in event.items() if key not in clocks}
        for event in map(json.loads, lines)
        if event["kind"] == kind
    ]


def last_update(run: Path) -> int:
    """Return the last update in the log."""
    trained = events(run, "train")
    return int(trained[-1]["update"]) if trained else 0


def digests(checkpoint: Path) -> dict[str, str]:
    """Return the SHA-256 of the tensors in a checkpoint."""
    names = ("model.safetensors", "training.safetensors")
    return {name: hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() for name in names}


def stop(running: WarmProcess, run: Path, at: int, number: int) -> int:
    """Send a signal once so many updates are done; return the exit code."""
    running.wait_until(lambda: last_update(run) >= at)
    running.send(number)
    return running.finish().code


def test_a_stopped_run_ends_in_the_same_bits(
    undisturbed: tuple[tuple[str, ...], Path],
    warm: WarmCommandLine,
    copy: Path,
) -> None:
    settings, wanted = undisturbed
    run = copy / "run"
    command = ("train", "config.yaml", *settings)
    # the second one while it validates, or about
    for at, number in ((7, signal.SIGTERM), (20, signal.SIGINT), (27, signal.SIGKILL)):
        code = stop(warm.start(*command), run, at, number)
        (*_, newest) = list_checkpoints(run / "checkpoints")
        position = load_checkpoint(newest, with_training=False).state["position"]
        assert position["batch"] > 0, "this was to stop in the middle of an epoch"
        if number == signal.SIGKILL:
            assert code == -number
            assert position["update"] % 3 == 0 or position["update"] % 20 == 0
        else:
            assert code == 128 + number
            assert position["update"] == last_update(run)  # not one update is lost
    finished = succeed(warm, *command)
    assert "resuming from" in finished.err
    name = f"update-{UPDATES:08}"
    assert digests(run / "checkpoints" / name) == digests(wanted / "checkpoints" / name)
    assert events(run, "train") == events(wanted, "train")
    assert events(run, "valid") == events(wanted, "valid")
    assert [event["update"] for event in events(run, "train")] == list(range(1, UPDATES + 1))
    assert [event["update"] for event in events(run, "valid")] == [20, 40]


def test_the_bits_depend_on_the_seed(
    undisturbed: tuple[tuple[str, ...], Path], warm: WarmCommandLine, copy: Path
) -> None:
    """What is compared above is not the same for every run."""
    settings, other = undisturbed
    succeed(warm, "train", "config.yaml", *settings, "--set", "seed=2")
    name = f"update-{UPDATES:08}"
    mine, theirs = digests(copy / "run/checkpoints" / name), digests(other / "checkpoints" / name)
    assert all(mine[file] != theirs[file] for file in mine)


def test_a_signal_saves_and_ends_the_command_line(mtrain: CommandLine, copy: Path) -> None:
    """The same, in a process that was started as a user starts it."""
    settings = as_options(*SMALL, "training.max_updates=100000", "training.save_every=100000")
    process = mtrain.start("train", "config.yaml", *settings)
    try:
        while last_update(copy / "run") < 5:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143
    saved = f"saved after update {last_update(copy / 'run')}"
    assert saved in said.decode()
    assert b"Traceback" not in said
    (checkpoint,) = list_checkpoints(copy / "run" / "checkpoints")
    assert load_checkpoint(checkpoint, with_training=False).state["position"][
        "update"
    ] == last_update(copy / "run")


def test_a_terminal_that_closes_loses_no_update(copy: Path) -> None:
    """The kernel and the shell each send SIGHUP, and what is written to the terminal fails."""
    settings = as_options(*SMALL, "training.max_updates=100000", "training.save_every=100000")
    number, terminal = pty.openpty()
    process = CommandLine(copy).start(
        *("train", "config.yaml", *settings),
        **dict.fromkeys(("stdin", "stdout", "stderr"), terminal),
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    os.set_blocking(number, False)
    try:
        while last_update(copy / "run") < 5:
            assert process.poll() is None
            with suppress(BlockingIOError):
                os.read(number, 1 << 16)  # or the terminal would fill up
            time.sleep(0.01)
        os.close(number)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=60) == 129
    finally:
        process.kill()
    (checkpoint,) = list_checkpoints(copy / "run" / "checkpoints")
    assert load_checkpoint(checkpoint, with_training=False).state["position"][
        "update"
    ] == last_update(copy / "run")


def test_a_second_signal_exits_at_once(warm: WarmCommandLine, copy: Path) -> None:
    """An update that takes many seconds is neither finished nor saved."""
    slow = as_options(
        *("model.d_model=512", "model.ffn_dim=2048", "model.encoder_layers=6"),
        *("training.batch_tokens=100000", "training.accumulate=100"),
    )
    running = warm.start("train", "config.yaml", *slow)
    running.wait_until(lambda: "training transformer" in running.said)
    time.sleep(0.5)
    running.send(signal.SIGTERM)
    time.sleep(0.5)  # two signals: two that are the same may arrive as one
    running.send(signal.SIGINT)
    finished = running.finish()
    assert finished.code in (143, 130)
    assert "saved" not in finished.err
    assert list_checkpoints(copy / "run" / "checkpoints") == []


def test_one_training_at_a_time(warm: WarmCommandLine, copy: Path) -> None:
    endless = as_options(*SMALL, "training.max_updates=100000")
    first = warm.start("train", "config.yaml", *endless)
    first.wait_until(lambda: last_update(copy / "run") >= 3)
    second = warm("train", "config.yaml", *endless)
    assert second.code == 2
    assert "run: another `mtrain train` is at work here" in second.err
    first.send(signal.SIGKILL)  # and a lock does not outlive the one who held it
    assert first.finish().code == -signal.SIGKILL
    third = warm.start("train", "config.yaml", *endless)
    third.wait_until(lambda: "resuming from" in third.said)
    third.send(signal.SIGTERM)
    third.finish()

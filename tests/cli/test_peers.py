"""A process that is lost or stuck is named by the others, which end with an error."""

import signal
import socket
from pathlib import Path

import pytest

from tests.cli.test_resume import as_options
from tests.cli.test_torchrun import start_two
from tests.cli.warm import WarmCommandLine, WarmProcess, mtrain_with

LIMITS = {"MTRAIN_PEER_LIMITS": "2,4"}


@pytest.mark.parametrize(
    ("rank", "event", "told"),
    [
        (1, "stop", "has not been heard of for"),
        (0, "stop", "does not answer"),  # the host of what they meet at
        (1, "kill", "has not been heard of for"),
        (1, "hang", "is alive, but has got no further for"),
        (1, "leave", "has left"),
    ],
)
def test_a_lost_process_is_named_with_its_phase(
    rank: int, event: str, told: str, tmp_path: Path, server: None
) -> None:
    command = ("-m", "tests.cli.meeting", str(rank), event)
    with start_two(tmp_path, command, LIMITS) as processes:
        finished = processes[1 - rank].finish(30)
    assert finished.code not in (0, None)
    assert f"error: rank {1 - rank}, in phase: validating after update 1: " in finished.err
    assert told in finished.err
    assert f"rank {rank} on {socket.gethostname()} (process " in finished.err
    assert "in phase: validating after update 1\n" in finished.err
    assert "training resumes from the last checkpoint" in finished.err
    assert "Traceback" not in finished.err


def test_two_processes_that_work_longer_than_the_limits_end_well(
    tmp_path: Path, server: None
) -> None:
    command = ("-m", "tests.cli.meeting", "0", "nothing")
    with start_two(tmp_path, command, {"MTRAIN_PEER_LIMITS": "20,0.2"}) as processes:
        assert [process.finish(30).code for process in processes] == [0, 0]


def test_training_ends_where_another_process_is_stopped(
    trained: WarmCommandLine, tmp_path: Path
) -> None:
    settings = as_options(f"run_dir={tmp_path}/run", "data_dir=run/data", "training.accumulate=2",
                          "training.save_every=5", "training.max_updates=100000")  # fmt: skip
    command = mtrain_with("train", "config.yaml", *settings)
    with start_two(trained.folder, command, LIMITS) as processes:
        first, second = processes
        first.wait_until(lambda: any((tmp_path / "run").glob("checkpoints/update-*")))
        second.send(signal.SIGSTOP)
        finished = first.finish(30)
    assert finished.code == 2
    assert "rank 1 on " in finished.err
    assert "last in phase: " in finished.err
    assert "Traceback" not in finished.err


def test_a_port_in_use_is_named(trained: WarmCommandLine) -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        group = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
        command = mtrain_with("train", "config.yaml")
        process = WarmProcess(trained.folder, command, variables={**group, "MASTER_PORT": port})
        finished = process.finish(30)
        process.close()
    assert finished.code == 2
    assert f"error: 127.0.0.1:{port}: another program uses this port already" in finished.err
    assert "--master-port" in finished.err
    assert "Traceback" not in finished.err


def test_limits_that_are_none_are_refused(tmp_path: Path, server: None) -> None:
    command = ("-m", "tests.cli.meeting", "0", "nothing")
    with start_two(tmp_path, command, {"MTRAIN_PEER_LIMITS": "soon"}) as processes:
        finished = processes[0].finish(30)
    assert finished.code == 1
    assert finished.err.startswith("error: MTRAIN_PEER_LIMITS=soon: not two numbers of seconds")

"""Verbs under torchrun: one process speaks, and only training shares its work out."""

import os
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import MappingProxyType

import pytest

from mtrain.checkpoints.collection import list_checkpoints
from mtrain.checkpoints.format import load_checkpoint, manifest
from tests.cli.test_resume import as_options
from tests.cli.warm import WarmCommandLine, WarmProcess, mtrain_with
from tests.conftest import Finished

# else torchrun's agents may count restarts differently, and their processes never meet again
NEW_STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


def free_port() -> str:
    """Return a port of this machine that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@contextmanager
def start_two(
    folder: Path,
    command: tuple[str, ...],
    variables: Mapping[str, str] = MappingProxyType({}),
    own: Sequence[str] = ("", ""),
) -> Iterator[list[WarmProcess]]:
    """Start what follows `python` in two processes, in the environment that torchrun gives them.

    Each may have one more argument of its `own`.
    """
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                closing(
                    WarmProcess(
                        folder,
                        (*command, *filter(None, [own[int(rank)]])),
                        variables={**group, **variables, "RANK": rank, "LOCAL_RANK": rank},
                    )
                )
            )
            for rank in "01"
        ]


def run_two(folder: Path, *arguments: object, own: Sequence[str] = ("", "")) -> list[Finished]:
    """Run a command of mtrain in two processes, to their end."""
    with start_two(folder, mtrain_with(*arguments), own=own) as processes:
        return [process.finish() for process in processes]


def test_a_check_by_two_processes_is_told_once(trained: WarmCommandLine, tmp_path: Path) -> None:
    elsewhere = ("--set", f"run_dir={tmp_path}/run", "--set", "data_dir=run/data")
    shared = ("--set", "training.accumulate=2")
    first, second = run_two(trained.folder, "train", "config.yaml", "--check", *elsewhere, *shared)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert "updates" in first.out
    assert second.out == ""
    assert "Traceback" not in first.err + second.err


@pytest.mark.parametrize(
    "command",
    [
        ("prepare", "config.yaml"),
        ("translate", "run", "test.digits"),
        ("align", "run", "test.digits", "test.words"),
        ("attention", "run", "test.digits", "--no-pictures", "--output"),
        ("score", "--hypotheses", "test.words", "--references", "test.words"),
    ],
    ids=lambda command: command[0],
)
def test_one_process_of_two_does_the_work_of_other_verbs(
    command: tuple[str, ...], trained: WarmCommandLine, tmp_path: Path
) -> None:
    if command[-1] == "--output":
        command = (*command, str(tmp_path / "shown"))
    first, second = run_two(trained.folder, *command)
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert (second.out, second.err) == ("", "")
    assert first.err.count(f"{command[0]} works in one process; the others do nothing\n") == 1
    if command[0] in ("translate", "align"):
        assert first.out.count("\n") == 60


def test_a_run_folder_that_one_machine_does_not_see_is_an_error_of_all(
    trained: WarmCommandLine, tmp_path: Path
) -> None:
    given = as_options("data_dir=run/data", "training.accumulate=2")
    own = [f"--set=run_dir={tmp_path}/{name}" for name in ("here", "there")]
    for finished in run_two(trained.folder, "train", "config.yaml", *given, own=own):
        assert finished.code == 2
        assert "is not seen by process 1 on " in finished.err
        assert "Traceback" not in finished.err


def test_torchrun_on_two_machines_restarts_a_sharded_run_after_a_process_is_killed(
    trained: WarmCommandLine, tmp_path: Path
) -> None:
    """The machines are two agents of torchrun on this one, each with a process."""
    checkpoints = tmp_path / "run" / "checkpoints"
    given = as_options(
        *(f"run_dir={tmp_path}/run", f"data_dir={trained.folder}/run/data", "model.d_model=16"),
        *("training.accumulate=2", "training.batch_tokens=64", "training.sharding=full"),
        *("training.max_updates=30", "training.save_every=10", "training.valid_every=1000"),
        *("decoding.beam_size=1", "decoding.max_length_ratio=1", "training.precision=fp32"),
    )
    agent = (
        *("-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"),
        *("--max-restarts", "3", "--rdzv-backend", "c10d", "--rdzv-id", "run"),
        *("--rdzv-endpoint", f"127.0.0.1:{free_port()}"),
        *mtrain_with("train", "config.yaml", *given),
    )
    with ExitStack() as stack:
        agents = [
            stack.enter_context(closing(WarmProcess(trained.folder, agent, variables=NEW_STORE)))
            for _ in range(2)
        ]
        agents[1].wait_until(lambda: len(list_checkpoints(checkpoints)) > 0)
        os.kill(agents[1].children[0], signal.SIGKILL)
        finished = [each.finish() for each in agents]
    said = "".join(each.err for each in finished)
    assert [each.code for each in finished] == [0, 0], said
    assert "resuming from " in said
    last = list_checkpoints(checkpoints)[-1]
    assert last.name == "update-00000030"
    pieces = {f"training-{number}-of-2.safetensors" for number in (1, 2)}
    assert pieces < manifest(last)["sha256"].keys()
    assert load_checkpoint(last, with_training=True).state["position"]["update"] == 30
    assert "best by dev" in "".join(each.out for each in finished)

"""Verbs under torchrun: one process speaks, and only training shares its work out."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.cli.warm import WarmCommandLine, WarmProcess, mtrain_with
from tests.conftest import Finished


def free_port() -> str:
    """Return a port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@contextmanager
def start_two(
    folder: Path, command: tuple[str, ...], variables: Mapping[str, str] = MappingProxyType({})
) -> Iterator[list[WarmProcess]]:
    """Start what follows `python` in two processes, in the environment that torchrun gives them."""
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                closing(
                    WarmProcess(
                        folder,
                        command,
                        variables={**group, **variables, "RANK": rank, "LOCAL_RANK": rank},
                    )
                )
            )
            for rank in "01"
        ]


def run_two(folder: Path, *arguments: object) -> list[Finished]:
    """Run a command of mtrain in two processes, to their end."""
    with start_two(folder, mtrain_with(*arguments)) as processes:
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

"""The command line in a forked child of a process that has already imported torch.

Each command is a separate process that runs the real entry point: tests can kill it, signal it
and wait for it. This saves only the one or two seconds of imports. What else is run as
`python SCRIPT` or `python -m MODULE` is spared them by `run_warm_python`.
"""

import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from multiprocessing import forkserver
from pathlib import Path
from types import MappingProxyType

from mtrain.text.characters import folded, script_numbers
from mtrain.text.identification import _identifier, is_installed
from mtrain.text.languages import _nearest
from tests.conftest import Finished

# Imported before the fork and not used there: threads would not survive it.
PRELOADED = [
    "pytest",  # which a child imports where it was started as a script
    "torch",
    "torch._dynamo",  # which the first optimiser imports
    "mtrain.cli",
    "mtrain.commands.prepare",
    "mtrain.commands.score",
    "mtrain.commands.train",
    "mtrain.commands.translate",
    "mtrain.models.transformer",
    "tests.cli.warm",
]
# Every `prepare` makes or loads these, 0.8 s in all; the codes are those of the small task.
folded()
script_numbers()
if is_installed():
    _identifier()
for unknown_code in ("digits", "words"):
    _nearest(unknown_code)


class WarmProcess:
    """A command under way: what follows `python` on a command line."""

    def __init__(
        self,
        folder: Path,
        command: tuple[str, ...],
        stdin: bytes = b"",
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mtrain-test-")
        self._streams = Path(self._folder.name)
        for name, content in (("stdin", stdin), ("stdout", b""), ("stderr", b"")):
            (self._streams / name).write_bytes(content)
        self._process = multiprocessing.get_context("forkserver").Process(
            target=_become, args=(folder, command, self._streams, dict(variables)), daemon=True
        )
        self._process.start()

    @property
    def said(self) -> str:
        """What it has written to stderr so far."""
        return (self._streams / "stderr").read_text()

    @property
    def is_alive(self) -> bool:
        """Whether it is still at work."""
        return self._process.is_alive()

    @property
    def children(self) -> list[int]:
        """The processes that it has started, by their number."""
        tasks = Path(f"/proc/{self._process.pid}/task")
        return [
            int(child) for told in tasks.glob("*/children") for child in told.read_text().split()
        ]

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for something to happen while the command is at work, two minutes at most."""
        end = time.monotonic() + 120
        while not condition():
            assert self.is_alive, f"it ended too early:\n{self.said}"
            assert time.monotonic() < end, f"this did not happen; it said:\n{self.said}"
            time.sleep(0.0005)

    def send(self, number: int) -> None:
        """Send it a signal."""
        assert self._process.pid is not None
        assert self.is_alive, f"it ended before signal {number}:\n{self.said}"
        os.kill(self._process.pid, number)

    def finish(self, timeout: float = 120) -> Finished:
        """Wait for its end; a negative code is the signal that killed it."""
        self._process.join(timeout)
        code = self._process.exitcode
        assert code is not None, f"no end after {timeout} s; it said:\n{self.said}"
        out = (self._streams / "stdout").read_bytes().decode("utf-8", "replace")
        return Finished(code, out, self.said)

    def close(self) -> None:
        """Kill what is still at work, and remove what it wrote."""
        self._process.kill()
        self._process.join()
        self._folder.cleanup()


class WarmCommandLine:
    """Runs `mtrain` as `CommandLine` does, without the wait for imports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[WarmProcess] = []

    def start(self, *arguments: object, stdin: bytes = b"") -> WarmProcess:
        """Start a command."""
        self._started.append(WarmProcess(self.folder, mtrain_with(*arguments), stdin))
        return self._started[-1]

    def __call__(self, *arguments: object, stdin: bytes = b"", timeout: float = 120) -> Finished:
        """Run a command to its end."""
        return self.start(*arguments, stdin=stdin).finish(timeout)

    def close(self) -> None:
        """End whatever was started, as after a test that failed."""
        for process in self._started:
            process.close()


def start_server() -> None:
    """Start the process that the commands are forked from; it takes on the present environment."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()


def mtrain_with(*arguments: object) -> tuple[str, ...]:
    """Return what follows `python` to run `mtrain` with arguments."""
    return ("-m", "mtrain", *map(str, arguments))


def run_warm_python(folder: Path, *command: object, stdin: bytes = b"") -> Finished:
    """Run what would be `python COMMAND` in a folder, to its end."""
    with closing(WarmProcess(folder, tuple(map(str, command)), stdin)) as process:
        return process.finish()


def _become(
    folder: Path, command: tuple[str, ...], streams: Path, variables: dict[str, str]
) -> None:
    """Be the command in a folder, with streams of its own and more environment variables."""
    modes = {"stdin": os.O_RDONLY, "stdout": os.O_WRONLY, "stderr": os.O_WRONLY}
    for number, (name, mode) in enumerate(modes.items()):
        os.dup2(os.open(streams / name, mode | os.O_APPEND), number)
    sys.stdin = os.fdopen(0)  # multiprocessing has closed the one that was there
    # ignored where the tests were started in the background, and inherited from there
    signal.signal(signal.SIGINT, signal.default_int_handler)
    multiprocessing.set_start_method("fork", force=True)  # as in a process not forked like this
    os.chdir(folder)
    os.environ.update(variables)
    if command[:2] == ("-m", "mtrain"):
        from mtrain.cli import main

        sys.argv = ["mtrain", *command[2:]]
        main()
    elif command[0] == "-m":
        sys.argv = list(command[1:])
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(command)
        sys.path.insert(0, str(Path(command[0]).parent))
        runpy.run_path(command[0], run_name="__main__")

"""Input and output files of a command: `-` is stdin for input and stdout for output."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from mtrain.errors import UserError
from mtrain.text.lines import STREAM, open_stdout, write_whole

NAMES_OF_STDOUT = (STREAM, Path("/dev/stdout"), Path("/dev/fd/1"), Path("/proc/self/fd/1"))


def is_stdout(path: Path | None) -> bool:
    """Return whether an output path means stdout, as None does."""
    return path is None or path in NAMES_OF_STDOUT


@contextmanager
def open_output(path: Path | None) -> Iterator[BinaryIO]:
    """Open stdout, or a file that gets its name, complete, if the block ends without an error.

    Enter it before long work: it raises an error if the path cannot be written.
    """
    if path is None or is_stdout(path):
        yield open_stdout()
    else:
        with write_whole(path) as file:
            yield file


@contextmanager
def open_folder(path: Path) -> Iterator[None]:
    """Create a folder to write into; if the block fails, remove it if it is new and empty.

    Enter it before long work: it raises an error if the folder cannot be written.
    """
    is_new = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryFile(dir=path):
            pass
        yield
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        if is_new:
            with suppress(OSError):
                path.rmdir()
        raise


def read_stdin_once(*paths: Path | None) -> None:
    """Raise UserError if more than one of the inputs is stdin."""
    if paths.count(STREAM) > 1:
        raise UserError(
            "- stands for stdin, which can be read only once", "write the others to files first"
        )

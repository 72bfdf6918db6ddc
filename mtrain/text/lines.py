"""Lines of text files, the same for every command: bytes, split on \\n and on nothing else.

N newline-ended lines are N lines, even if they contain U+2028, U+0085, a lone CR or NUL.
Decoding replaces invalid UTF-8 by U+FFFD and reports the lines that had it.
"""

import hashlib
import io
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar

from mtrain.console import warn
from mtrain.errors import UserError
from mtrain.remote import RemotePath, discard, outgoing, refuse_unsendable, send
from mtrain.text.encoding import ENCODING_HINT, Text, open_text

BYTE_ORDER_MARK = "\ufeff"
STREAM = Path("-")  # stdin for reading, stdout for writing
# OTHER_SPACES belong to a text: no-break, narrow, fixed-width and ideographic spaces. Cleaning
# replaces a run of BLANKS by one space: ASCII white space, NUL, line ends, byte-order marks.
OTHER_SPACES = frozenset("\u00a0\u1680\u202f\u205f\u3000") | {*map(chr, range(0x2000, 0x200B))}
BLANKS = re.compile("[\x00\t-\r\x1c- \x85\u2028\u2029\ufeff]+")
_UMASK = threading.Lock()  # to read the mask is to change it, for all threads

T = TypeVar("T")


@contextmanager
def open_bytes(path: Path | None) -> Iterator[Text]:
    """Open a text file, or stdin for None or `-`, decompressed and in UTF-8.

    Raises UserError if it is missing or not text; see `mtrain.text.encoding`.
    """
    if path is None or path == STREAM:
        if sys.stdin is None:
            raise UserError("stdin is closed", "name a file to read")
        # own buffer: no thread may still wait on Python's when the program ends
        yield open_text(io.FileIO(0, closefd=False), "stdin")
        return
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file (looked in {Path.cwd()})") from None
    except IsADirectoryError:
        raise UserError(f"{path}: this is a folder, a text file was expected") from None
    with file:
        yield open_text(file, str(path))


def refuse_early(*paths: Path | None) -> None:
    """Raise UserError for files that are missing or not text, before they are read."""
    for path in paths:
        # not for a pipe: it can be read only once
        if path not in (None, STREAM) and (path.is_file() or not path.exists()):
            with open_bytes(path):
                pass


def read_lines(path: Path | None) -> Iterator[bytes]:
    """Yield the lines of a file, or stdin, without their \\n; memory holds one at a time."""
    with open_bytes(path) as file:
        for line in file:
            yield line.removesuffix(b"\n")


def open_stdout() -> BinaryIO:
    """Return stdout as a binary stream. Raises UserError if it is closed."""
    if sys.stdout is None:
        raise UserError("stdout is closed", "name a file to write with --output")
    return sys.stdout.buffer


def blocks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the items in lists of `size`, the last one shorter."""
    iterator = iter(items)
    while block := list(islice(iterator, size)):
        yield block


def decode_line(line: bytes) -> tuple[str, bool]:
    """Return a line as text, and whether it was valid UTF-8."""
    try:
        return line.decode("utf-8"), True
    except UnicodeDecodeError:
        return line.decode("utf-8", errors="replace"), False


def decode_lines(lines: Iterable[bytes]) -> list[str]:
    """Return lines as text, bad bytes replaced."""
    return [decode_line(line)[0] for line in lines]


def count_invalid(lines: Sequence[bytes]) -> int:
    """Return how many lines are not UTF-8."""
    return sum(not decode_line(line)[1] for line in lines)


def warn_of_invalid(where: object, num_lines: int) -> None:
    """Warn of lines that are not UTF-8, if there are any."""
    if num_lines:
        warn(
            f"{where}: {num_lines} lines are not valid UTF-8; their bad bytes were replaced by "
            f"U+FFFD; {ENCODING_HINT}"
        )


def clean_line(text: str) -> str:
    """Return a source as a model sees it: no byte-order mark, no white space at the ends.

    A run of white space, NULs and characters that some programs read as line ends becomes a space.
    """
    return " ".join(text.replace("\x00", " ").replace(BYTE_ORDER_MARK, " ").split())


def clean_target(line: bytes) -> str:
    """Return a raw target as a model sees it: cleaned like a source, but OTHER_SPACES are kept.

    A no-break or ideographic space within the line is part of the text. Runs of BLANKS are not:
    they become one space, as in a source.
    """
    text = decode_line(line)[0]
    if OTHER_SPACES.isdisjoint(text):
        return clean_line(text)
    return BLANKS.sub(" ", text).strip()


def clean_bytes(line: bytes) -> str:
    """Return a raw source as a model sees it."""
    return clean_line(decode_line(line)[0])


def clean_lines(lines: Sequence[bytes]) -> tuple[list[str], list[bool]]:
    """Return raw sources as a model sees them, and for each whether it was valid UTF-8."""
    decoded = [decode_line(line) for line in lines]
    return [clean_line(text) for text, _ in decoded], [is_valid for _, is_valid in decoded]


def clean_pairs(sources: Sequence[bytes], targets: Sequence[bytes]) -> tuple[list[str], list[str]]:
    """Return both sides of raw pairs as a model sees them."""
    return clean_lines(sources)[0], list(map(clean_target, targets))


def one_line(text: str) -> str:
    """Return an output text with its line breaks replaced by spaces."""
    return " ".join(text.splitlines())


def file_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file in a folder, by its path there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in files}


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def write_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write; it gets its name, complete, if the block ends without an error."""
    if isinstance(path, RemotePath):
        refuse_unsendable(path)
        with write_whole(outgoing(path)) as file:
            yield file
        send(path)
        discard(path)
        return
    if not can_be_replaced(path):
        with path.open("wb") as file:
            yield file
        return
    path = path.resolve()
    with naming(path):
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=".part"
        )
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        make_readable(Path(temporary))
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # write errors lack the path
            error.filename = str(path)
        raise


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let the errors of writing an output name it, and not the file that has its content so far."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: there is no folder {path.parent}") from None
    except NotADirectoryError:
        raise UserError(f"{path}: {path.parent} is a file, not a folder") from None
    except OSError as error:
        error.filename = str(path)
        raise


def can_be_replaced(path: Path) -> bool:
    """Return whether a path is an ordinary file, or none yet: no rename replaces /dev/null."""
    if isinstance(path, RemotePath):
        return True
    return (path.is_file() or not path.exists()) and not _is_descriptor(path)


def flush_to_disk(path: Path) -> None:
    """Return when a file, or the names in a folder, would survive a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_descriptor(path: Path) -> bool:
    """Return whether a path names an open file descriptor, such as /dev/fd/3."""
    names = (Path("/dev/stdout"), Path("/dev/stderr"))
    return path in names or path.parent.resolve().parts[1:2] == ("proc",)


def make_readable(path: Path) -> None:
    """Give a file or folder that was created for its owner alone the mode of any other new one."""
    with _UMASK:
        mask = os.umask(0)
        os.umask(mask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)

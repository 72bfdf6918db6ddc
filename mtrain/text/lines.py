"""Lines of text files, the same for every verb: bytes, split on \\n and on nothing else.

N newline-ended lines are N lines, whatever bytes they hold: U+2028, U+0085, a lone CR, NUL.
Text that is not UTF-8 gets U+FFFD in place of its bad bytes, and whoever reads is told.
"""

import gzip
import hashlib
import io
import lzma
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from mtrain.errors import UserError

BYTE_ORDER_MARK = "\ufeff"
REPLACEMENT = "\ufffd"
STREAM = Path("-")  # stdin where a file is read, stdout where one is written
ZSTANDARD_STARTS = (b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18")  # the latter is pzstd's


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, decompressing gz, xz and zst (told by their first bytes)."""
    if path == STREAM:
        yield open_stdin()
        return
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file (looked in {Path.cwd()})") from None
    except IsADirectoryError:
        raise UserError(f"{path}: this is a folder, a text file was expected") from None
    with file:
        magic = file.peek(6)[:6]  # which a pipe allows as well
        try:
            if magic.startswith(b"\x1f\x8b"):
                with gzip.open(file) as plain:
                    yield cast(BinaryIO, plain)
            elif magic.startswith(b"\xfd7zXZ\x00"):
                with lzma.open(file) as plain:
                    yield cast(BinaryIO, plain)
            elif magic.startswith(ZSTANDARD_STARTS):
                yield _open_zstandard(file)
            else:
                yield file
        except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
            raise UserError(f"{path}: damaged compressed file ({error})") from None
        except OSError as error:
            if error.errno is None:  # pyarrow's way of saying the same
                raise UserError(f"{path}: damaged compressed file ({error})") from None
            raise


def _open_zstandard(file: BinaryIO) -> BinaryIO:
    import pyarrow  # comes with `datasets`; unlike others, it notices a stream that was cut short

    return io.BufferedReader(pyarrow.CompressedInputStream(file, "zstd"), 1 << 16)


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, without their \\n; memory holds one line at a time."""
    with open_bytes(path) as file:
        for line in file:
            yield line.removesuffix(b"\n")


def open_stdin() -> BinaryIO:
    """Open stdin, with a buffer of its own: Python's may not be waited on when the program ends."""
    if sys.stdin is None:
        raise UserError("stdin is closed", "name a file to read")
    return io.BufferedReader(io.FileIO(0, closefd=False))


def open_stdout() -> BinaryIO:
    """Return stdout for bytes. Raises UserError where it is closed."""
    if sys.stdout is None:
        raise UserError("stdout is closed", "name a file to write with --output")
    return sys.stdout.buffer


def decode_line(line: bytes) -> tuple[str, bool]:
    """Return a line as text, and whether it was valid UTF-8."""
    try:
        return line.decode("utf-8"), True
    except UnicodeDecodeError:
        return line.decode("utf-8", errors="replace"), False


def clean_line(text: str) -> str:
    """Return the text as a model sees it: no byte-order mark, no white space at the ends.

    White space and the characters that some programs take for line ends become one space.
    """
    return " ".join(text.replace("\x00", " ").replace(BYTE_ORDER_MARK, " ").split())


def clean_bytes(line: bytes) -> str:
    """Return a raw line as a model sees it."""
    return clean_line(decode_line(line)[0])


def clean_lines(lines: Sequence[bytes]) -> tuple[list[str], list[bool]]:
    """Return raw lines as a model sees them, and of each whether it was valid UTF-8."""
    decoded = [decode_line(line) for line in lines]
    return [clean_line(text) for text, _ in decoded], [is_valid for _, is_valid in decoded]


def one_line(text: str) -> str:
    """Return an output text with nothing in it that would start another line."""
    return " ".join(text.splitlines())


def file_digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a folder, by name."""
    return {path.name: file_digest(path) for path in sorted(folder.iterdir())}


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def write_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears under its name, complete, when the block ends without an error."""
    if (path.exists() and not path.is_file()) or _is_descriptor(path):
        with path.open("wb") as file:  # /dev/null, a pipe: nothing to rename onto
            yield file
        return
    path = path.resolve()
    try:
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=".part"
        )
    except FileNotFoundError:
        raise UserError(f"{path}: there is no folder {path.parent}") from None
    except NotADirectoryError:
        raise UserError(f"{path}: {path.parent} is a file, not a folder") from None
    except OSError as error:
        error.filename = str(path)
        raise
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        make_readable(Path(temporary))
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # writing does not say where
            error.filename = str(path)
        raise


def _is_descriptor(path: Path) -> bool:
    """Tell whether a path is another name of a file that is open, as /dev/fd/3."""
    names = (Path("/dev/stdout"), Path("/dev/stderr"))
    return path in names or path.parent.resolve().parts[1:2] == ("proc",)


def make_readable(path: Path) -> None:
    """Give a file made for its owner alone the mode of any other new file."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)

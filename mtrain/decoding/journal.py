"""A journal of output files: a killed job resumes at the first block that is not on disk.

Beside the first output, `.NAME.part` holds its lines so far, `.NAME.part-2` those of the second
one, and `.NAME.journal` what they belong to and how many are safe. An output gets its name when all
are complete. `NAME.json` can tell what a whole output was made from. The files of an output with a
URL are in the cache until it is sent.
"""

import errno
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import count, takewhile
from pathlib import Path
from tempfile import NamedTemporaryFile
from types import TracebackType
from typing import Any, BinaryIO

from mtrain.console import say
from mtrain.data.folders import lock
from mtrain.decoding.outputs import Outputs
from mtrain.errors import UserError
from mtrain.remote import RemotePath, discard, outgoing, refuse_unsendable, send
from mtrain.text.lines import file_digest, flush_to_disk, naming, write_whole

FORMAT = 1


@dataclass(frozen=True)
class Record:
    """What an earlier attempt has written safely."""

    identity: dict[str, Any]  # what the outputs depend on; empty if the record cannot be read
    lines: int
    sizes: list[int]  # bytes of each output
    notes: dict[str, Any]
    is_complete: bool  # nothing is left to do but to give the outputs their names


class Journal(Outputs):
    """Output files with a record of what is safe. Use it in a `with` statement, then `begin`."""

    def __init__(self, *paths: Path) -> None:
        self._given = paths
        self.paths = [outgoing(path) for path in paths]
        first = self.paths[0]
        self.record_path = first.with_name(f".{first.name}.journal")
        self._parts = [self._part(number) for number in range(1, len(paths) + 1)]
        self._files: list[BinaryIO] = []
        self._identity: dict[str, Any] = {}
        self._has_appended = self._is_finished = False
        self.earlier: Record | None = None

    def __enter__(self) -> "Journal":
        """Lock the outputs and read the record of an earlier attempt.

        Raises UserError if an output cannot be written, or if another process writes it.
        """
        try:
            with naming(self.paths[0]):
                self._files.append(_open_locked(self._parts[0], self.paths[0]))
            for path in self.paths[1:]:
                with naming(path), NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}."):
                    pass  # what fails here would fail when all is done
            for path in self._given:
                refuse_unsendable(path)
            self.earlier = _read_record(self.record_path)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._close()
        is_refused = isinstance(error, UserError) and not self._has_appended
        if error is None or self._is_finished or is_refused:
            return
        kept = _read_record(self.record_path)  # a signal may come just after it was written
        if kept is not None and kept.lines:
            say(
                f"{self.paths[0]}: the first {kept.lines:,} lines are kept: the same command "
                "continues after them"
            )

    @staticmethod
    def is_complete(path: Path, identity: Mapping[str, Any]) -> bool:
        """Return whether an output is whole, and `NAME.json` says that it is of this identity."""
        try:
            return path.is_file() and bool(json.loads(about(path).read_bytes()) == identity)
        except (OSError, ValueError):
            return False

    def is_whole(self) -> bool:
        """Return whether all that the earlier attempt's record tells of is there."""
        earlier = self.earlier
        return (
            earlier is not None
            and len(earlier.sizes) == len(self._parts)
            and all(_size(part) >= size or (earlier.is_complete and _size(path) == size)
                    for part, path, size in zip(self._parts, self.paths, earlier.sizes,
                                                strict=True))
        )  # fmt: skip

    def is_named(self) -> bool:
        """Return whether the earlier attempt was killed when the outputs had their names."""
        return (
            not any(isinstance(path, RemotePath) for path in self._given)  # it may not be sent yet
            and self.is_whole()
            and self.earlier is not None
            and self.earlier.is_complete
            and not any(map(_size, self._parts))
        )

    def resumes(self, identity: Mapping[str, Any]) -> bool:
        """Return whether the earlier attempt can be resumed as a job of this identity."""
        return self.earlier is not None and self.earlier.identity == identity and self.is_whole()

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Resume the earlier attempt; drop it if it cannot be resumed.

        `identity` holds, as JSON values, everything that the outputs depend on.
        """
        self._identity = dict(identity)
        sizes = [0] * len(self._parts)
        if self.earlier is not None and self.resumes(identity):
            self.num_lines, self.notes = self.earlier.lines, self.earlier.notes
            sizes = self.earlier.sizes
        else:
            self.record_path.unlink(missing_ok=True)
            for path in (self.record_path, *self._parts):
                _new(path).unlink(missing_ok=True)
            for path in takewhile(Path.exists, map(self._part, count(2))):
                path.unlink()
        with naming(self.paths[0]):
            self._files += map(_open, self._parts[1:])
        flush_to_disk(self.record_path.parent)
        for number, size in enumerate(sizes):
            with naming(self.paths[number]):
                if _size(self._parts[number]) < size:
                    self._take_back(number)
                self._files[number].truncate(size)
                self._files[number].seek(size)

    def _take_back(self, number: int) -> None:
        """Make a part of an output that has its name, and keeps it meanwhile."""
        copy = _new(self._parts[number])
        file = copy.open("w+b")
        lock(file, f"{copy}: another process is writing this file")
        with self.paths[number].open("rb") as named:
            shutil.copyfileobj(named, file)
        _flush(file)
        os.replace(copy, self._parts[number])
        self._files[number].close()
        self._files[number] = file

    def append(self, contents: Sequence[bytes], num_lines: int, notes: Mapping[str, Any]) -> None:
        """Write a block to each output; once this returns, a kill does not lose it."""
        for path, file, content in zip(self.paths, self._files, contents, strict=True):
            with naming(path):
                file.write(content)
                _flush(file)
        self._write_record(self.num_lines + num_lines, notes)
        self.num_lines, self.notes = self.num_lines + num_lines, notes
        self._has_appended = True

    def digests(self) -> list[str]:
        """Return the SHA-256 of each output as it is so far."""
        return [file_digest(part) for part in self._parts]

    def finish(self, told: Mapping[str, Any] | None = None) -> None:
        """Give the outputs their names; then write `told` into `NAME.json`, if there is any."""
        for path, file in zip(self.paths, self._files, strict=True):
            with naming(path):
                _flush(file)
        self._write_record(self.num_lines, self.notes, is_complete=True)
        flush_to_disk(self.record_path.parent)
        about_path = about(self.paths[0])
        if told is not None:
            about_path.unlink(missing_ok=True)  # an earlier output's
        named = list(zip(self._parts, self.paths, strict=True))
        for part, path in reversed(named):  # the first one last: it holds the lock
            with naming(path):
                _move(part, path)
                flush_to_disk(path.parent)
        if told is not None:
            with naming(about_path):
                _write_json(about_path, told)
                flush_to_disk(about_path.parent)  # before the record goes
        for path in self._given:
            send(path)
        self.record_path.unlink(missing_ok=True)
        self._is_finished = True
        for path in self._given:
            discard(path)

    def _write_record(
        self, lines: int, notes: Mapping[str, Any], is_complete: bool = False
    ) -> None:
        sizes = [file.tell() for file in self._files]
        record = Record(self._identity, lines, sizes, dict(notes), is_complete)
        with naming(self.paths[0]):
            _write_json(self.record_path, {"format": FORMAT, **asdict(record)})

    def _part(self, number: int) -> Path:
        """Return the file that has an output's lines so far; the outputs count from 1."""
        first = self.paths[0]
        return first.with_name(f".{first.name}.part" + (f"-{number}" if number > 1 else ""))

    def _close(self) -> None:
        """Close the files, and remove them where no record tells of them."""
        is_ours = bool(self._files) and not self._is_finished
        if is_ours and not self.record_path.exists():
            for part in self._parts:
                part.unlink(missing_ok=True)
        for file in self._files:
            with suppress(OSError):  # the disk is full: said before
                file.close()


def _open(path: Path) -> BinaryIO:
    """Open a file to read and write; it need not exist, and keeps what it holds."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")


def _open_locked(part: Path, path: Path) -> BinaryIO:
    """Open the part of an output for this process alone. Raises UserError if another has it."""
    while True:
        file = _open(part)
        try:
            lock(file, f"{path}: another process is writing this output")
            if os.path.samestat(os.fstat(file.fileno()), part.stat()):
                return file
        except FileNotFoundError:
            pass  # the other process has just finished, and the file has its name
        except BaseException:
            file.close()
            raise
        file.close()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _move(part: Path, path: Path) -> None:
    """Give a part its name, also on another disk."""
    try:
        os.replace(part, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with write_whole(path) as file, part.open("rb") as content:
            shutil.copyfileobj(content, file)
        part.unlink()


def _new(path: Path) -> Path:
    """Return the name of the next content of a file: always the same, so that it is not left."""
    return path.with_name(f"{path.name}.new")


def about(path: Path) -> Path:
    """Return the file that can tell what a whole output was made from."""
    return path.with_name(f"{path.name}.json")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a file at once."""
    new = _new(path)
    try:
        with new.open("wb") as file:
            file.write(json.dumps(content, indent=1).encode())
            _flush(file)
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def _read_record(path: Path) -> Record | None:
    try:
        content = json.loads(path.read_bytes())
        if content.pop("format") == FORMAT:
            return Record(**content)
    except FileNotFoundError:
        return None
    except (ValueError, LookupError, TypeError, AttributeError):
        pass  # damaged, or of another version
    return Record({}, 0, [], {}, is_complete=False)

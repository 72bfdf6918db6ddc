"""A journal of translations: a killed translation resumes at the first block that is not on disk.

Beside the output, `.NAME.part` holds the lines so far and `.NAME.journal` what they belong to and
how many are safe. `NAME.json` tells what a whole output was made from.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from mtrain.text.lines import write_whole


class Journal:
    """The lines of one output file, appended in blocks. Use it in a `with` statement."""

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        """Open the journal of an output; lines of another `identity` are thrown away.

        `identity` holds, as JSON values, everything that the output depends on.
        """
        self._path = path
        self._identity = dict(identity)
        self._part = path.with_name(f".{path.name}.part")
        self._record = path.with_name(f".{path.name}.journal")
        path.parent.mkdir(parents=True, exist_ok=True)
        self.num_lines, num_bytes = self._safe()
        self.drops_others = self._part.is_file() and not num_bytes  # of another identity
        self._file: BinaryIO = self._part.open("r+b" if num_bytes else "wb")
        self._file.truncate(num_bytes)
        self._file.seek(num_bytes)

    @staticmethod
    def is_complete(path: Path, identity: Mapping[str, Any]) -> bool:
        """Return whether the output is whole and of this identity."""
        return path.is_file() and _read(path.with_name(f"{path.name}.json")) == identity

    def append(self, lines: Sequence[bytes]) -> None:
        """Write a block of lines; once this returns, a kill does not lose it."""
        self._file.writelines(line + b"\n" for line in lines)
        self._flush()
        self.num_lines += len(lines)
        self._write(self._record, {"identity": self._identity, "lines": self.num_lines,
                                   "bytes": self._file.tell()})  # fmt: skip

    def finish(self) -> None:
        """Give the output its name."""
        self._flush()
        about = self._path.with_name(f"{self._path.name}.json")
        about.unlink(missing_ok=True)  # an earlier output's
        os.replace(self._part, self._path)
        self._write(about, self._identity)
        self._record.unlink(missing_ok=True)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._file.close()

    def _safe(self) -> tuple[int, int]:
        """Return the lines and bytes of an earlier attempt that can be kept."""
        record = _read(self._record)
        if record is None or record.get("identity") != self._identity:
            return 0, 0
        if not self._part.is_file():  # killed just after it was renamed
            if not self._path.is_file() or self._path.stat().st_size != record["bytes"]:
                return 0, 0
            os.replace(self._path, self._part)
        if self._part.stat().st_size < record["bytes"]:
            return 0, 0
        return record["lines"], record["bytes"]

    def _flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def _write(self, path: Path, content: Mapping[str, Any]) -> None:
        with write_whole(path) as file:
            file.write(json.dumps(content, indent=1).encode())


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None

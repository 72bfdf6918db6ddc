"""A file of blocks: for each a record in JSON, and arrays.

A record is a line, which says how the bytes of the arrays that follow it are to be read. Knows
nothing of what blocks are.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]


def write_block(
    file: BinaryIO, record: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Append a block: a record and arrays of one dimension."""
    shapes = {name: [array.dtype.str, len(array)] for name, array in arrays.items()}
    file.write(json.dumps({"record": record, "arrays": shapes}).encode() + b"\n")
    for array in arrays.values():
        file.write(array.tobytes())


class BlockReader:
    """Reads the blocks of a file one by one; keeps no file open, since there may be very many."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def read(self) -> tuple[dict[str, Any], Arrays] | None:
        """Return the record and the arrays of the next block, or None after the last."""
        with self._path.open("rb") as file:
            file.seek(self._position)
            line = file.readline()
            if not line:
                return None
            told = json.loads(line)
            arrays = {
                name: np.frombuffer(file.read(length * np.dtype(kind).itemsize), kind)
                for name, (kind, length) in told["arrays"].items()
            }
            self._position = file.tell()
        return told["record"], arrays

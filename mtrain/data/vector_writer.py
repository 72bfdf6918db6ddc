"""Writes a column of vectors that a token store gets after its other columns.

Does not import torch.
"""

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np

from mtrain.data.store import Vectors
from mtrain.errors import UserError

OFFSET_BYTES = 8  # of the place of a pair's vectors


class VectorWriter:
    """Appends the vectors of each pair to a store on disk; keeps none of them in memory."""

    def __init__(self, folder: Path, column: str) -> None:
        self._open = ExitStack()
        self._vectors, self._offsets = (
            self._open.enter_context((folder / f"{column}.{part}").open("wb"))
            for part in ("tokens", "offsets")
        )
        self._end = 0
        self._offsets.write(np.zeros(1, np.int64).tobytes())

    def append(self, rows: Sequence[Vectors]) -> None:
        """Append the vectors (F,Df) of some pairs, in the order of the store."""
        for vectors in rows:
            self._vectors.write(np.ascontiguousarray(vectors).tobytes())
            self._end += len(vectors)
            self._offsets.write(np.int64(self._end).tobytes())

    def __enter__(self) -> "VectorWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._open.close()


def check_room(folder: Path, size: int, told: str, instead: str) -> None:
    """Raise UserError, with what is `told` of it, if the disk has no room for `size` bytes."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise UserError(
            f"{told}, and {folder.parent} has room for {free / 1e9:,.3f} GB",
            f"make room, name a data_dir on another disk, or {instead}",
        )

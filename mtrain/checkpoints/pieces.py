"""Training tensors in several files: each process of a sharded training writes its own rows.

The metadata of `training-2-of-4.safetensors` say with which row of the whole each tensor begins.
Read together, the files are the whole tensors again, for any other number of processes.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

FIRST_ROWS = "first_rows"  # in a file's metadata, as JSON: by tensor name
_NAME = re.compile(r"training-(\d+)-of-(\d+)\.safetensors")


def piece_name(number: int, count: int) -> str:
    """Return the name of the file of process `number`, from 1, of so many."""
    return f"training-{number}-of-{count}.safetensors"


def piece_names(files: Iterable[str]) -> list[str]:
    """Return those of the files that hold pieces; none if they are not those of all processes."""
    counts = [int(found[2]) for found in map(_NAME.fullmatch, files) if found]
    names = [piece_name(number, len(counts)) for number in range(1, len(counts) + 1)]
    return names if set(names) <= set(files) else []


def write_pieces(path: Path, tensors: dict[str, Tensor], first_rows: Mapping[str, int]) -> None:
    """Write the rows of one process; what is not in `first_rows` is whole."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(stored, path, {FIRST_ROWS: json.dumps(dict(first_rows))})


class PiecedTensors(Mapping[str, Tensor]):
    """The whole tensors in several files; it reads those that are asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Read the heads of the files. Raises SafetensorError or ValueError if one is damaged."""
        self._pieces: dict[str, list[tuple[int, Any]]] = {}  # first row and slice, in order
        for path in paths:
            file: Any = safe_open(path, "pt")
            first_rows = json.loads((file.metadata() or {}).get(FIRST_ROWS, "{}"))
            for name in list(file.keys()):
                piece = first_rows.get(name, 0), file.get_slice(name)
                self._pieces.setdefault(name, []).append(piece)
        for pieces in self._pieces.values():
            pieces.sort(key=lambda piece: piece[0])

    def __iter__(self) -> Iterator[str]:
        return iter(self._pieces)

    def __len__(self) -> int:
        return len(self._pieces)

    def __getitem__(self, name: str) -> Tensor:
        if not self.shape(name):
            scalar: Tensor = self._pieces[name][0][1][...]
            return scalar
        return self.rows(name, slice(0, self.shape(name)[0]))

    def shape(self, name: str) -> torch.Size:
        """Return the shape of a whole tensor."""
        first, last = self._pieces[name][-1]
        rows, *others = last.get_shape() or [None]
        return torch.Size([] if rows is None else [first + rows, *others])

    def rows(self, name: str, wanted: slice) -> Tensor:
        """Return some rows of a tensor; reads no others."""
        found = []
        for first, piece in self._pieces[name]:
            start = max(wanted.start - first, 0)
            stop = min(wanted.stop - first, piece.get_shape()[0])
            if start < stop:
                found.append(piece[start:stop])
        return torch.cat(found) if found else torch.empty(0, *self.shape(name)[1:])


def shape_of(stored: Mapping[str, Tensor], name: str) -> torch.Size:
    """Return the shape of a whole tensor in a checkpoint."""
    return stored.shape(name) if isinstance(stored, PiecedTensors) else stored[name].shape


def read_rows(stored: Mapping[str, Tensor], name: str, wanted: slice) -> Tensor:
    """Return some rows of a tensor in a checkpoint."""
    if isinstance(stored, PiecedTensors):
        return stored.rows(name, wanted)
    return stored[name][wanted].clone()  # not a view, which would keep the whole tensor

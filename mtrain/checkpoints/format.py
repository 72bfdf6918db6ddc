"""The checkpoint format: written whole or not at all, verified when read, never unpickled.

A checkpoint is a folder `update-00001000` with tensors in safetensors, the rest in JSON, and a
manifest of digests, written last. It is written under another name, flushed to disk and renamed.
So a kill at any moment keeps the earlier checkpoints and leaves no partial new one. The processes
of a sharded training write the tensors to resume from in pieces.
"""

import errno
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mtrain.checkpoints.pieces import PiecedTensors, piece_name, piece_names, write_pieces
from mtrain.errors import UserError
from mtrain.text.lines import file_digest, flush_to_disk, make_readable

FORMAT, FORMAT_IN_PIECES = 1, 2  # the second for what a sharded training writes
PREFIX = "update-"
WRITING, REMOVING = ".writing", ".removing"
MODEL, TRAINING, STATE, MANIFEST = (
    "model.safetensors",  # the weights to translate with
    "training.safetensors",  # the other tensors to resume from; absent in an average
    "state.json",
    "manifest.json",
)


class DamagedCheckpoint(UserError):
    """A checkpoint that is truncated, changed, or not in this format."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"checkpoint {path} is damaged: {problem}", "remove it, or restore it from a copy"
        )


@dataclass(frozen=True)
class Checkpoint:
    """The content of one checkpoint folder."""

    path: Path
    weights: dict[str, Tensor]
    training: Mapping[str, Tensor]  # empty if not read or absent
    state: dict[str, Any]


def save_checkpoint(
    folder: Path,
    name: str,
    weights: dict[str, Tensor],
    training: dict[str, Tensor],
    state: dict[str, Any],
) -> Path:
    """Write a checkpoint into `folder` and return its path; a taken name gets a suffix `.1`."""
    writing = begin_checkpoint(folder, name)
    try:
        with reporting_full_disk(folder / name):
            if training:
                save_file(_storable(training), writing / TRAINING)
            return publish(writing, folder / name, weights, state)
    except (OSError, SafetensorError, UserError):
        shutil.rmtree(writing, ignore_errors=True)
        raise


def begin_checkpoint(folder: Path, name: str) -> Path:
    """Make the folder that a checkpoint is written into until it is published."""
    _remove_unfinished(folder)
    writing = unpublished(folder, name)
    writing.mkdir()
    return writing


def unpublished(folder: Path, name: str) -> Path:
    """Return the folder that `begin_checkpoint` makes."""
    return folder / f".{name}{WRITING}"


@contextmanager
def reporting_full_disk(path: Path) -> Iterator[None]:
    """Raise UserError if a checkpoint cannot be written inside the block as the disk is full."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if is_full or (isinstance(error, SafetensorError) and "os error 28" in str(error)):
            raise UserError(
                f"{path}: the disk is full, the checkpoint could not be written",
                "make room, then run the same command again: it resumes from the last checkpoint",
            ) from None
        raise


def save_piece(
    writing: Path,
    number: int,
    count: int,
    tensors: dict[str, Tensor],
    first_rows: dict[str, int],
) -> dict[str, str]:
    """Write the training tensors of one process of several, flushed; return the file's digest."""
    path = writing / piece_name(number, count)
    write_pieces(path, tensors, first_rows)
    make_readable(path)
    flush_to_disk(path)
    return {path.name: file_digest(path)}


def publish(
    writing: Path,
    path: Path,
    weights: dict[str, Tensor],
    state: dict[str, Any],
    pieces: dict[str, str] | None = None,
) -> Path:
    """Write the rest of a checkpoint and give it its name; return its path.

    `pieces` are the digests of the files that other processes have written.
    """
    save_file(_storable(weights), writing / MODEL)
    (writing / STATE).write_text(json.dumps(state), "utf-8")
    own = [file for file in writing.iterdir() if file.name not in (pieces or ())]
    digests = {file.name: file_digest(file) for file in own} | (pieces or {})
    content = {"format": FORMAT_IN_PIECES if pieces else FORMAT, "sha256": digests}
    (writing / MANIFEST).write_text(json.dumps(content, indent=1), "utf-8")
    for file in [*own, writing / MANIFEST, writing]:
        make_readable(file)
        flush_to_disk(file)
    destination = free_name(path)
    os.rename(writing, destination)
    flush_to_disk(path.parent)
    return destination


def free_name(path: Path) -> Path:
    """Return the path, or if it is taken, the path with the first free suffix `.1`, `.2`, ..."""
    names = (path.with_name(f"{path.name}.{number}") for number in itertools.count(1))
    return path if not path.exists() else next(name for name in names if not name.exists())


def load_checkpoint(path: Path, with_training: bool) -> Checkpoint:
    """Read a checkpoint and verify the digest of each file read. Raises `DamagedCheckpoint`.

    Translation needs no training state, and reads only a third of the bytes without it.
    """
    state = read_state(path)
    digests = manifest(path)["sha256"]
    names = [MODEL, *(training_files(digests) if with_training else [])]
    for name in names:
        if not (path / name).is_file():
            raise DamagedCheckpoint(path, f"{name} is missing")
        if file_digest(path / name) != digests[name]:
            raise DamagedCheckpoint(path, f"{name} is not what was written (its digest differs)")
    try:
        weights, training = load_file(path / MODEL), _open_training(path, names[1:])
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedCheckpoint(path, str(error)) from None
    return Checkpoint(path, weights, training, state)


def training_files(files: Iterable[str]) -> list[str]:
    """Return those files of a checkpoint that hold training tensors, in the order of processes."""
    return [TRAINING] if TRAINING in files else piece_names(files)


def _open_training(path: Path, names: Sequence[str]) -> Mapping[str, Tensor]:
    if list(names) == [TRAINING]:
        return load_file(path / TRAINING)
    return PiecedTensors([path / name for name in names])


def weights_digest(path: Path) -> str:
    """Return the SHA-256 of the weights to translate with. Raises `DamagedCheckpoint`."""
    digest: str = manifest(path)["sha256"][MODEL]
    return digest


def read_state(path: Path) -> dict[str, Any]:
    """Read only the JSON part, and verify its digest. Raises `DamagedCheckpoint`."""
    digests = manifest(path)["sha256"]
    try:
        if file_digest(path / STATE) != digests[STATE]:
            raise DamagedCheckpoint(path, f"{STATE} is not what was written (its digest differs)")
        state: dict[str, Any] = json.loads((path / STATE).read_text("utf-8"))
    except (OSError, KeyError, ValueError, RecursionError) as error:
        raise DamagedCheckpoint(path, f"{STATE}: {error}") from None
    return state


def checkpoint_name(update: int) -> str:
    """Return the name of the checkpoint after `update` updates."""
    return f"{PREFIX}{update:08}"


def manifest(path: Path) -> dict[str, Any]:
    """Read the manifest. Raises `DamagedCheckpoint` if it is missing or invalid."""
    try:
        content: dict[str, Any] = json.loads((path / MANIFEST).read_text("utf-8"))
        digests = content["sha256"]
        is_complete = digests.keys() == {MODEL, STATE, *training_files(digests)}
    except FileNotFoundError:
        raise DamagedCheckpoint(path, f"it has no {MANIFEST}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DamagedCheckpoint(path, f"its {MANIFEST} cannot be read") from None
    formats = FORMAT, FORMAT_IN_PIECES
    if content.get("format") not in formats or not is_complete:
        known = " or ".join(map(str, formats))
        raise DamagedCheckpoint(path, f"its {MANIFEST} is not of format {known}")
    return content


def _storable(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _remove_unfinished(folder: Path) -> None:
    """Remove checkpoints that a kill left half written or half removed."""
    for suffix in (WRITING, REMOVING):
        for path in folder.glob(f".{PREFIX}*{suffix}"):
            shutil.rmtree(path)

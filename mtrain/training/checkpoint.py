"""Checkpoints: written whole or not at all, checked when read, never unpickled.

A checkpoint is a folder `update-00001000` with tensors in safetensors, the rest in JSON, and a
manifest of digests, written last. It is filled under another name, flushed to the disk and
renamed, so that a kill at any moment leaves the earlier ones and no half of a new one.
"""

import errno
import itertools
import json
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mtrain.console import warn
from mtrain.errors import UserError
from mtrain.text.lines import file_digest, file_digests, make_readable

FORMAT = 1
PREFIX = "update-"
WRITING, REMOVING = ".writing", ".removing"
MODEL, TRAINING, STATE, MANIFEST = (
    "model.safetensors",  # the weights to translate with
    "training.safetensors",  # what else training goes on from; absent in an average
    "state.json",
    "manifest.json",
)


class DamagedCheckpoint(UserError):
    """A checkpoint that is cut short, changed, or not one of ours."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"checkpoint {path} is damaged: {problem}", "remove it, or restore it from a copy"
        )


@dataclass(frozen=True)
class Checkpoint:
    """What one checkpoint folder holds."""

    path: Path
    weights: dict[str, Tensor]
    training: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(
    folder: Path,
    name: str,
    weights: dict[str, Tensor],
    training: dict[str, Tensor],
    state: dict[str, Any],
) -> Path:
    """Write a checkpoint into `folder` and return its path. None is ever overwritten: where the
    name is taken, `.1` follows it."""
    _remove_unfinished(folder)
    writing = folder / f".{name}{WRITING}"
    writing.mkdir()
    try:
        save_file(_storable(weights), writing / MODEL)
        if training:
            save_file(_storable(training), writing / TRAINING)
        (writing / STATE).write_text(json.dumps(state), "utf-8")
        manifest = {"format": FORMAT, "sha256": file_digests(writing)}
        (writing / MANIFEST).write_text(json.dumps(manifest, indent=1), "utf-8")
        for path in writing.iterdir():
            make_readable(path)
            _flush(path)
        _flush(writing)
        destination = _free_name(folder / name)
        os.rename(writing, destination)
        _flush(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(writing, ignore_errors=True)
        is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if is_full or (isinstance(error, SafetensorError) and "os error 28" in str(error)):
            raise UserError(
                f"{folder / name}: the disk is full, the checkpoint could not be written",
                "make room, then run the same command again: it goes on from the last checkpoint",
            ) from None
        raise
    return destination


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.{number}") for number in itertools.count(1))
    return path if not path.exists() else next(name for name in names if not name.exists())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint, every byte of it checked. Raises `DamagedCheckpoint`."""
    state = read_state(path)
    digests = _manifest(path)["sha256"]
    for name, digest in digests.items():
        if not (path / name).is_file():
            raise DamagedCheckpoint(path, f"{name} is missing")
        if file_digest(path / name) != digest:
            raise DamagedCheckpoint(path, f"{name} is not what was written (its digest differs)")
    try:
        weights = load_file(path / MODEL)
        training = load_file(path / TRAINING) if TRAINING in digests else {}
    except (SafetensorError, OSError) as error:
        raise DamagedCheckpoint(path, str(error)) from None
    return Checkpoint(path, weights, training, state)


def read_state(path: Path) -> dict[str, Any]:
    """Read the JSON part alone, digest checked. Raises `DamagedCheckpoint`."""
    digests = _manifest(path)["sha256"]
    try:
        if file_digest(path / STATE) != digests[STATE]:
            raise DamagedCheckpoint(path, f"{STATE} is not what was written (its digest differs)")
        state: dict[str, Any] = json.loads((path / STATE).read_text("utf-8"))
    except (OSError, KeyError, ValueError, RecursionError) as error:
        raise DamagedCheckpoint(path, f"{STATE}: {error}") from None
    return state


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints, oldest first; names sort by update."""
    return sorted(path for path in folder.glob(f"{PREFIX}*") if path.is_dir())


def checkpoint_name(update: int) -> str:
    """Return the name of the checkpoint after so many updates."""
    return f"{PREFIX}{update:08}"


def is_resumable(path: Path) -> bool:
    """Tell whether training can go on from a checkpoint; a damaged one counts until it is read."""
    try:
        return TRAINING in _manifest(path)["sha256"]
    except DamagedCheckpoint:
        return True


def load_last_whole(paths: list[Path]) -> Checkpoint | None:
    """Return the last of `paths` that is whole, warning of each that is not.

    Returns None where there are no paths; raises `DamagedCheckpoint` where none is whole.
    """
    damage: DamagedCheckpoint | None = None
    for path in reversed(paths):
        try:
            return load_checkpoint(path)
        except DamagedCheckpoint as error:
            warn(f"{error.message}; trying the one before it")
            damage = damage or error
    if damage is not None:
        raise damage
    return None


def set_aside(path: Path) -> None:
    """Give a damaged checkpoint a name by which it is no longer counted, and never removed."""
    aside = _free_name(path.with_name(f"damaged-{path.name}"))
    os.rename(path, aside)
    warn(f"{path} is kept as {aside.name}")


def order_by_quality(paths: list[Path], metric: str) -> list[Path]:
    """Return checkpoints worst first by a dev metric (bleu, chrf or loss).

    Of equals, and of those without a figure, the newer is the better. One whose state cannot be
    read comes first of all, with a warning.
    """

    def quality(path: Path) -> tuple[float, str]:
        try:
            value = (read_state(path).get("validation") or {}).get(metric)
        except DamagedCheckpoint as error:
            warn(error.message)
            return float("-inf"), ""
        if value is None or math.isnan(value):
            return float("-inf"), path.name
        return (-value if metric == "loss" else value), path.name

    return sorted(paths, key=quality)


def prune(folder: Path, metric: str, keep_best: int, keep_last: int) -> None:
    """Remove all but the best checkpoints and those of the newest updates.

    A folder without a manifest is no work of ours: not counted, and left to the user.
    """
    paths = [path for path in list_checkpoints(folder) if (path / MANIFEST).is_file()]
    best = order_by_quality(paths, metric)[-keep_best:]
    newest = sorted({path.stem for path in paths})[-keep_last:]  # without .1 and .average
    for path in paths:
        if path not in best and path.stem not in newest:
            removing = path.with_name(f".{path.name}{REMOVING}")
            os.rename(path, removing)  # from here on it is no checkpoint, even if killed now
            shutil.rmtree(removing)


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text("utf-8"))
        digests = manifest["sha256"]
        is_complete = {MODEL, STATE} <= digests.keys()
    except FileNotFoundError:
        raise DamagedCheckpoint(path, f"it has no {MANIFEST}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DamagedCheckpoint(path, f"its {MANIFEST} cannot be read") from None
    if manifest.get("format") != FORMAT or not is_complete:
        raise DamagedCheckpoint(path, f"its {MANIFEST} is not of format {FORMAT}")
    return manifest


def _storable(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _remove_unfinished(folder: Path) -> None:
    """Remove what a kill left of checkpoints being written or removed."""
    for suffix in (WRITING, REMOVING):
        for path in folder.glob(f".{PREFIX}*{suffix}"):
            shutil.rmtree(path)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

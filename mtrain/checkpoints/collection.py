"""The checkpoints of a run: their order, which is the best, which are kept."""

import math
import os
import shutil
from pathlib import Path

from mtrain.checkpoints.format import (
    MANIFEST,
    PREFIX,
    REMOVING,
    TRAINING,
    Checkpoint,
    DamagedCheckpoint,
    free_name,
    load_checkpoint,
    manifest,
    read_state,
)
from mtrain.console import warn


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints, oldest first; names sort by update."""
    return sorted(path for path in folder.glob(f"{PREFIX}*") if path.is_dir())


def is_resumable(path: Path) -> bool:
    """Tell whether training can resume from a checkpoint; a damaged one counts until it is read."""
    try:
        return TRAINING in manifest(path)["sha256"]
    except DamagedCheckpoint:
        return True


def load_last_whole(paths: list[Path], with_training: bool) -> Checkpoint | None:
    """Return the last of `paths` that is whole, warning of each that is not.

    Returns None where there are no paths; raises `DamagedCheckpoint` where none is whole.
    """
    damage: DamagedCheckpoint | None = None
    for path in reversed(paths):
        try:
            return load_checkpoint(path, with_training)
        except DamagedCheckpoint as error:
            warn(f"{error.message}; trying the one before it")
            damage = damage or error
    if damage is not None:
        raise damage
    return None


def set_aside(path: Path) -> None:
    """Give a damaged checkpoint a name by which it is no longer counted, and never removed."""
    aside = free_name(path.with_name(f"damaged-{path.name}"))
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

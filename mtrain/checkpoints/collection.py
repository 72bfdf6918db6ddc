"""The checkpoints of a run: list, order by quality, load, prune."""

import math
import os
import shutil
from pathlib import Path

from mtrain.checkpoints.format import (
    MANIFEST,
    PREFIX,
    REMOVING,
    Checkpoint,
    DamagedCheckpoint,
    free_name,
    load_checkpoint,
    manifest,
    read_state,
    training_files,
)
from mtrain.console import warn


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints, oldest first: their names sort by update."""
    return sorted(path for path in folder.glob(f"{PREFIX}*") if path.is_dir())


def is_resumable(path: Path) -> bool:
    """Tell whether training can resume from a checkpoint; True if its manifest is damaged."""
    try:
        return bool(training_files(manifest(path)["sha256"]))
    except DamagedCheckpoint:
        return True


def load_last_whole(paths: list[Path], with_training: bool) -> Checkpoint | None:
    """Load the last undamaged checkpoint of `paths`; warn about each damaged one.

    Returns None if there are no paths; raises `DamagedCheckpoint` if all are damaged.
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
    """Rename a damaged checkpoint, so that it is neither counted nor removed."""
    aside = free_name(path.with_name(f"damaged-{path.name}"))
    os.rename(path, aside)
    warn(f"{path} is kept as {aside.name}")


def order_by_quality(paths: list[Path], metric: str) -> list[Path]:
    """Return checkpoints worst first by a dev metric (bleu, chrf or loss).

    Among equals, and among those without a figure, a newer one ranks as better. A checkpoint with
    an unreadable state comes first, with a warning.
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


def prune(folder: Path, metric: str, keep_best: int, keep_last: int) -> Path:
    """Remove all but the best checkpoints and those of the newest updates; return the best.

    Neither counts nor removes folders without a manifest: mtrain did not write them.
    """
    paths = [path for path in list_checkpoints(folder) if (path / MANIFEST).is_file()]
    best = order_by_quality(paths, metric)[-keep_best:]
    newest = sorted({path.stem for path in paths})[-keep_last:]  # stems lack .1 and .average
    for path in paths:
        if path not in best and path.stem not in newest:
            removing = path.with_name(f".{path.name}{REMOVING}")
            os.rename(path, removing)  # no longer a checkpoint, even if killed now
            shutil.rmtree(removing)
    return best[-1]

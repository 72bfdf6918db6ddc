"""mtrain: a trainer for machine translation. Importing it imports no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mtrain.inference.load import LoadedRun

__version__ = "0.1.0"


def load(
    run: str | Path,
    checkpoint: str | None = None,
    overrides: Sequence[str] = (),
    ensemble: Sequence[str | Path] = (),
) -> "LoadedRun":
    """Load a trained run: `mtrain.load("runs/my-model").translate(["A dog runs."])`.

    `checkpoint` names one of the run's checkpoints, the best by default; `overrides` are
    `key=value` as for `--set`; `ensemble` names further runs whose probabilities are averaged with
    this one's. Raises `mtrain.errors.UserError` if there is no such run, or if runs do not fit
    together.
    """
    from mtrain.inference.ensemble import load_together

    return load_together([Path(run), *map(Path, ensemble)], checkpoint, overrides)

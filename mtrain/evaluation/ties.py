"""Warns if the validation metric cannot distinguish checkpoints."""

import math
from collections.abc import Sequence

from mtrain.console import warn

FEW = 3  # validations without a change after which to warn
INSTEAD = {"bleu": "chrf", "chrf": "loss"}  # a loss practically never repeats
DECIMALS = 2  # digits shown of a score


def describe_ties(metric: str, values: Sequence[float], patience: int) -> str | None:
    """Return a warning if all validations so far have the same score, else None.

    `values` are the scores by training.valid_metric, oldest first. The warning comes once: after
    FEW values, or earlier if training.patience ends the run sooner.
    """
    enough = min(FEW, patience + 1) if patience else FEW
    shown = {round(value, DECIMALS) for value in values}
    if metric not in INSTEAD or len(values) != enough or len(shown) > 1:
        return None
    told = (
        f"training.valid_metric {metric} was {values[0]:.{DECIMALS}f} at all {len(values)} "
        "validations so far: it cannot tell the checkpoints apart, so the newest counts as the best"
    )
    remedy = f"--set training.valid_metric={INSTEAD[metric]}"
    if patience:  # early stopping counts each tie as no improvement
        told += f", and training.patience {patience} ends the run"
        remedy += " --set training.patience=0"
    return f"{told}; train on with {remedy}"


class TieWatch:
    """The scores since the start or resume of a run; warns once if all equal the best."""

    def __init__(self, metric: str, patience: int) -> None:
        self._metric, self._patience = metric, patience
        self._values: list[float] = []

    def note(self, value: float, best: float) -> None:
        """Add a validation score; `best` is the best score before it, -inf if there is none."""
        if not self._values and math.isfinite(best):  # from before a resume
            self._values.append(best)
        self._values.append(value)
        message = describe_ties(self._metric, self._values, self._patience)
        if message is not None:
            warn(message)

"""Whether the metric that names the best checkpoint tells checkpoints apart at all."""

import math
from collections.abc import Sequence

from mtrain.console import warn

FEW = 3  # validations after which a metric that never moved is said not to
INSTEAD = {"bleu": "chrf", "chrf": "loss"}  # a loss is never the same twice
DECIMALS = 2  # that a score is shown with


def describe_ties(metric: str, values: Sequence[float], patience: int) -> str | None:
    """Return a warning where the validations so far all have the same score, else None.

    `values` are those of training.valid_metric, oldest first. It is said once: after FEW of them,
    or before so many that training.patience ends the run.
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
    if patience:  # it has counted each tie as no better
        told += f", and training.patience {patience} ends the run"
        remedy += " --set training.patience=0"
    return f"{told}; train on with {remedy}"


class TieWatch:
    """The scores of one sitting; warns once where none differs from the best."""

    def __init__(self, metric: str, patience: int) -> None:
        self._metric, self._patience = metric, patience
        self._values: list[float] = []

    def note(self, value: float, best: float) -> None:
        """Take a validation's score; `best` is that of all before it, -inf where there is none."""
        if not self._values and math.isfinite(best):  # an earlier sitting's
            self._values.append(best)
        self._values.append(value)
        message = describe_ties(self._metric, self._values, self._patience)
        if message is not None:
            warn(message)

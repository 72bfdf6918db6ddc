"""What `mtrain score` measures: the metrics that it is asked for, and sacreBLEU's test sets."""

from collections.abc import Sequence
from dataclasses import dataclass

from mtrain.errors import UserError, nearest_name
from mtrain.evaluation.metrics import DEFAULT_METRICS, ERROR_RATE, METRICS


@dataclass(frozen=True)
class Measures:
    """Metrics by name in METRICS, the main one first; and names such as wmt14:en-de."""

    metrics: Sequence[str] = DEFAULT_METRICS
    test_sets: Sequence[str] = ()

    @property
    def are_default(self) -> bool:
        """Whether nothing was asked for."""
        return tuple(self.metrics) == DEFAULT_METRICS and not self.test_sets

    def require_comparable(self) -> None:
        """Raise UserError unless more is better of the main metric."""
        if self.metrics[0] == ERROR_RATE:
            raise UserError(
                "--metrics: the first decides, and a lower TER is better",
                "put another first: --metrics bleu,ter",
            )


def parse_metrics(text: str | None) -> Sequence[str]:
    """Return the metrics of a list such as bleu,chrf++; the default ones for None.

    Raises UserError for unknown names and for one named twice.
    """
    if text is None:
        return DEFAULT_METRICS
    names = [name.strip().lower() for name in text.split(",")]
    problems = []
    for place, name in enumerate(names):
        if name not in METRICS:
            meant = nearest_name(name, METRICS)
            problems.append(f"--metrics: there is no {name or 'name'}{meant}")
        elif name in names[:place]:
            problems.append(f"--metrics: {name} is named twice")
    if problems:
        raise UserError("\n".join(problems), f"metrics are {', '.join(METRICS)}")
    return names

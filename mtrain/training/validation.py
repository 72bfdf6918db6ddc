"""Validation: the scores of valid, which steers training, and of the watch sets, which do not."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mtrain.distributed.group import ProcessGroup
from mtrain.evaluation.scored import SetTexts
from mtrain.models.base import Model


@dataclass(frozen=True)
class Scores:
    """Results on one set; BLEU and chrF are means over its directions."""

    loss: float  # negative log likelihood per target token, without smoothing
    bleu: float | None = None
    chrf: float | None = None
    accuracy: float | None = None  # share of the masked tokens that are predicted, in percent
    # by direction, as en-de, if there are several: bleu and chrf
    directions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)  # by corpus, if there are several

    def figures(self) -> dict[str, Any]:
        """Return the results as a dictionary without empty entries."""
        return {key: value for key, value in asdict(self).items() if value not in ({}, None)}

    def __str__(self) -> str:
        if self.accuracy is not None:
            return f"masked accuracy {self.accuracy:.2f} %"
        told = f"BLEU {self.bleu:.2f}"
        if self.directions:
            each = ", ".join(
                f"{name} {scores['bleu']:.2f}" for name, scores in self.directions.items()
            )
            told += f" (mean of {each})"
        return told


@dataclass(frozen=True)
class Validation(Scores):
    """Results on valid, and on each watch set by name."""

    watch: Mapping[str, Scores] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the results as a dictionary, for the log and the checkpoint."""
        watch = {name: scores.figures() for name, scores in self.watch.items()}
        return super().figures() | ({"watch": watch} if watch else {})

    @staticmethod
    def from_dict(figures: Mapping[str, Any]) -> "Validation":
        """Return the validation that `as_dict` was called on."""
        watch = {name: Scores(**scores) for name, scores in figures.get("watch", {}).items()}
        return Validation(**{**figures, "watch": watch})

    def __str__(self) -> str:
        perplexity = math.exp(min(self.loss, 50.0))
        chrf = "" if self.chrf is None else f", chrF {self.chrf:.2f}"
        return (
            f"dev loss {self.loss:.3f} (perplexity {perplexity:.1f}), {super().__str__()}{chrf}"
        ) + "".join(
            f"; watch {name}: loss {scores.loss:.3f}, {scores}"
            for name, scores in self.watch.items()
        )


class Scorer(ABC):
    """Scores a model on one set; several processes share its sentences."""

    @abstractmethod
    def __len__(self) -> int:
        """Return how many sentences are scored."""

    @abstractmethod
    def score(
        self, model: Model, on_progress: Callable[[int], None], group: ProcessGroup
    ) -> Scores:
        """Return the results, the same on every process of the group.

        `on_progress` gets the count of newly scored sentences, and may raise to stop.
        """

    @abstractmethod
    def score_some(self, model: Model, num_sentences: int) -> float:
        """Score the first sentences, for timing; return their share of all sentences."""

    def diagnose(self, model: Model, scores: Scores, group: ProcessGroup) -> str | None:
        """Return what seems wrong with the scores that `score` has just returned, or None."""
        return None

    def translated(self, name: str) -> list[SetTexts]:
        """Return what `score` has translated last, by direction; nothing if a model fills masks.

        `name` is that of the set.
        """
        return []


class Validator:
    """Scores a model on valid, then on each watch set."""

    def __init__(self, valid: Scorer, watch: Mapping[str, Scorer]) -> None:
        self.valid = valid
        self.watch = watch

    def __len__(self) -> int:
        return sum(map(len, (self.valid, *self.watch.values())))

    def validate(
        self, model: Model, on_progress: Callable[[int], None], group: ProcessGroup
    ) -> Validation:
        """Return the results, the same on every process of the group.

        `on_progress` gets the count of newly translated sentences, and may raise to stop.
        """
        steering = self.valid.score(model, on_progress, group)
        watch = {name: scorer.score(model, on_progress, group)
                 for name, scorer in self.watch.items()}  # fmt: skip
        return Validation(**vars(steering), watch=watch)

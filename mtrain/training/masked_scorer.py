"""Scores predictions of masked tokens on a held-out set: dev loss and accuracy.

The same tokens are masked at every validation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from mtrain.data.makers.masked import MaskedMaker
from mtrain.data.plan import derive_seed
from mtrain.data.store import IntArray
from mtrain.distributed.group import ProcessGroup
from mtrain.models.base import Model
from mtrain.nn.largest import largest
from mtrain.nn.output import IGNORE_INDEX
from mtrain.runtime.precision import Precision
from mtrain.training.validation import Scorer, Scores


@dataclass(frozen=True)
class TextPart:
    """The texts of one corpus of a set."""

    corpus: str
    rows: IntArray  # in the token store


@dataclass(frozen=True)
class _Sums:
    """Sums over the masked tokens of a batch."""

    nll: float
    num_right: int
    num_tokens: int


class MaskedScorer(Scorer):
    """Computes the loss per masked token, and the share that the model predicts."""

    def __init__(self, maker: MaskedMaker, parts: Sequence[TextPart], precision: Precision) -> None:
        self._maker = maker
        self._precision = precision
        self._plans = [(part, maker.plan_in_order(part.rows)) for part in parts]

    def __len__(self) -> int:
        return sum(len(part.rows) for part, _ in self._plans)

    def score(
        self, model: Model, on_progress: Callable[[int], None], group: ProcessGroup
    ) -> Scores:
        model.eval()
        totals: dict[str, list[_Sums]] = {}
        for part, plan in self._plans:
            numbers = range(len(plan))[group.rank :: group.size]
            own = []
            for number in numbers:
                own.append(self._sums(model, plan, number))
                on_progress(int((plan[number] >= 0).sum()))
            totals.setdefault(part.corpus, []).extend(group.gather(own))
        losses = {corpus: _loss(sums) for corpus, sums in totals.items()}
        every = [sums for each in totals.values() for sums in each]
        accuracy = 100 * sum(sums.num_right for sums in every) / _count(every)
        return Scores(_loss(every), accuracy=accuracy, losses=losses if len(losses) > 1 else {})

    def score_some(self, model: Model, num_sentences: int) -> float:
        model.eval()
        plan = next(plan for _, plan in self._plans if len(plan))
        self._sums(model, plan, 0)
        return max(1, int((plan[0] >= 0).sum())) / len(self)

    @torch.inference_mode()
    def _sums(self, model: Model, plan: Sequence[IntArray], number: int) -> _Sums:
        batch = self._maker.make(plan[number], derive_seed("validation", number))
        with self._precision.autocast():
            predictions = model(batch.to(self._precision.device))
        is_real = predictions.targets != IGNORE_INDEX
        features, targets = predictions.features.float()[is_real], predictions.targets[is_real]
        nll = model.output.cross_entropy(features, targets, 0.0)[1]
        right = largest(model.output(features))[1] == targets
        return _Sums(float(nll), int(right.sum()), len(targets))


def _loss(sums: Sequence[_Sums]) -> float:
    return sum(each.nll for each in sums) / _count(sums)


def _count(sums: Sequence[_Sums]) -> int:
    return max(1, sum(each.num_tokens for each in sums))

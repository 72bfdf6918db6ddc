"""Guided alignment (Garg et al. 2019): an attention head learns from given word alignments.

Shapes: B sentences, S source length, T target length.
"""

from torch import Tensor

from mtrain.data.batch import Batch, PairBatch
from mtrain.models.base import NO_RECORD, AttentionRecord, Head, Model, TranslationModel
from mtrain.training.objectives.base import LossSums, Objective

LEAST_ATTENTION = 1e-9  # keeps the logarithm finite at zero attention


class AlignmentGuidance(Objective):
    """Adds the alignment loss of one head to another objective, for batches with alignments."""

    def __init__(self, objective: Objective, head: Head, weight: float) -> None:
        self._objective = objective
        self._head = head
        self._weight = weight

    def __call__(self, model: Model, batch: Batch, record: AttentionRecord = NO_RECORD) -> LossSums:
        assert isinstance(batch, PairBatch)
        if batch.links is None:
            return self._objective(model, batch, record)
        assert isinstance(model, TranslationModel)
        own = model.record_of(self._head)
        sums = self._objective(model, batch, own)
        weights = model.alignment_in(own, batch, self._head)
        return LossSums(sums.loss + self._weight * alignment_loss(weights, batch.links), sums.nll)


def alignment_loss(weights: Tensor, links: Tensor) -> Tensor:
    """Return the summed cross-entropy of attention `weights` (B,T,S) against `links` (B,T,S).

    Each row of `links` is a distribution over the source, or zero for a word without links
    (Garg et al. 2019, equation 6).
    """
    return -(links * weights.float().clamp_min(LEAST_ATTENTION).log()).sum()

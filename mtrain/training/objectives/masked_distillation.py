"""Distillation of a BERT (Sanh et al. 2019, DistilBERT): a teacher predicts beside its student.

Shapes: R rows, L their width, N masked places, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mtrain.config import Config
from mtrain.data.batch import Batch, MaskedBatch
from mtrain.models.base import NO_RECORD, AttentionRecord, Model
from mtrain.models.bert import Bert
from mtrain.nn.soft_cross_entropy import (
    DenseDistribution,
    SparseDistribution,
    Term,
    soft_cross_entropy,
)
from mtrain.runtime.precision import Precision
from mtrain.training.objectives.base import LossSums, Objective, for_loss


class MaskedDistillation(Objective):
    """Predict masked tokens, what the teacher expects there, and the teacher's hidden states.

    Of weight w and temperature T: (1-w) cross-entropy with the masked token, plus w T^2
    cross-entropy with the teacher's softmax at T, both over masked places; plus `hidden_weight`
    times the cosine distance of the last hidden states, over all real tokens. The share of masked
    tokens scales that sum down to one per masked token.
    """

    def __init__(self, teacher: Bert, config: Config, precision: Precision) -> None:
        """Take a frozen teacher in evaluation mode, on the student's device."""
        assert config.distillation is not None
        self._teacher = teacher
        self._precision = precision
        self._label_smoothing = config.training.label_smoothing
        self._weight = config.distillation.weight
        self._temperature = config.distillation.temperature
        self._hidden_weight = config.distillation.hidden_weight * config.training.masked_share

    def __call__(self, model: Model, batch: Batch, record: AttentionRecord = NO_RECORD) -> LossSums:
        assert isinstance(model, Bert)
        assert isinstance(batch, MaskedBatch)
        with self._precision.autocast():
            states = model.hidden_states(batch, record)
            predictions = model.predictions(states, batch)
        with torch.no_grad(), self._precision.autocast():
            taught = self._teacher.hidden_states(batch)
            expected = self._teacher.predictions(taught, batch).features if self._weight else None
        features, targets = for_loss(predictions.features, self._precision), predictions.targets
        if expected is None:
            loss, nll = model.output.cross_entropy(
                features, targets, self._label_smoothing, predictions.has_static_shape
            )
        else:
            temperature, expected = self._temperature, for_loss(expected, self._precision)
            softmax = DenseDistribution(expected, self._teacher.output, temperature)
            own = SparseDistribution.of_tokens(targets, self._label_smoothing)
            terms = [
                Term(softmax, self._weight * temperature**2, temperature),
                Term(own, 1 - self._weight),
            ]
            loss, nll = soft_cross_entropy(model.output, features, targets, terms)
        if self._hidden_weight:
            is_real = batch.sentences >= 0
            loss = loss + self._hidden_weight * cosine_distance(states, taught, is_real)
        return LossSums(loss, nll)


def cosine_distance(states: Tensor, others: Tensor, is_real: Tensor) -> Tensor:
    """Return 1 - cosine of two tensors of states (R,L,D), summed where `is_real` (R,L)."""
    cosines = F.cosine_similarity(states.float(), others.float(), dim=2)
    return ((1 - cosines) * is_real).sum()

"""Word-level distillation (Kim and Rush 2016): a student learns a teacher's distributions.

Shapes: N target tokens of a batch.
"""

import torch

from mtrain.config import Config
from mtrain.data.batch import Batch, PairBatch
from mtrain.models.base import NO_RECORD, AttentionRecord, Model
from mtrain.nn.soft_cross_entropy import SparseDistribution, Term, soft_cross_entropy
from mtrain.runtime.precision import Precision
from mtrain.training.objectives.base import LossSums, Objective, for_loss


class TokenDistillation(Objective):
    """Predict each target token and what a teacher expects there, for batches that have it.

    Of weight w and temperature T: (1-w) cross-entropy with the token, label-smoothed, plus
    w T^2 cross-entropy with the teacher's distribution, both at T (Hinton 2015).
    """

    def __init__(self, objective: Objective, config: Config, precision: Precision) -> None:
        """Take the objective of batches without a teacher's distributions, as in validation."""
        assert config.distillation is not None
        self._objective = objective
        self._precision = precision
        self._label_smoothing = config.training.label_smoothing
        self._weight = config.distillation.weight
        self._temperature = config.distillation.temperature

    def __call__(self, model: Model, batch: Batch, record: AttentionRecord = NO_RECORD) -> LossSums:
        assert isinstance(batch, PairBatch)
        if batch.teacher_ids is None or batch.teacher_log_probs is None:
            return self._objective(model, batch, record)
        with self._precision.autocast():
            predictions = model(batch, record)
        features, targets = for_loss(predictions.features, self._precision), predictions.targets
        places = torch.arange(batch.target_out.shape[1], device=targets.device)
        is_real = places < batch.target_lengths[:, None]
        ids, log_probs = batch.teacher_ids[is_real], batch.teacher_log_probs[is_real]
        vocab_size, temperature = model.output.out_features, self._temperature
        taught = SparseDistribution.of_likeliest(ids, log_probs, vocab_size, temperature)
        num_targets = len(ids)
        own = SparseDistribution.of_tokens(targets[:num_targets], self._label_smoothing)
        if temperature == 1:  # one distribution, so one softmax
            terms = [Term(own.mixed_with(taught, self._weight))]
        else:
            terms = [
                Term(taught, self._weight * temperature**2, temperature),
                Term(own, 1 - self._weight),
            ]
        loss, nll = soft_cross_entropy(
            model.output, features[:num_targets], targets[:num_targets], terms
        )
        if num_targets < len(features):  # source tokens, which the teacher does not predict
            of_source = model.output.cross_entropy(
                features[num_targets:], targets[num_targets:], self._label_smoothing
            )
            loss, nll = loss + of_source[0], nll + of_source[1]
        return LossSums(loss, nll)

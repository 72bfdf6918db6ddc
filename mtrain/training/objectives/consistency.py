"""Consistency training: two passes over each batch shall predict the same.

R-Drop (Wu et al. 2021) and SimCut (Gao et al. 2022).
"""

from mtrain.config.training import ConsistencyConfig
from mtrain.data.batch import Batch
from mtrain.models.base import NO_RECORD, AttentionRecord, Model
from mtrain.nn.consistency import consistent_cross_entropy, kl, symmetric_kl
from mtrain.nn.dropout import cutting_tokens
from mtrain.runtime.precision import Precision
from mtrain.training.objectives.base import LossSums, Objective, for_loss, predict


class Consistency(Objective):
    """Predict each token in two passes, and penalise the divergence of the second from the first.

    A model that is not in training makes one pass. The loss of R-Drop is half of equation 4 of Wu
    et al., so that it has the scale of one pass.
    """

    def __init__(
        self, config: ConsistencyConfig, label_smoothing: float, precision: Precision
    ) -> None:
        self._label_smoothing = label_smoothing
        self._precision = precision
        if config.method == "r_drop":
            self._shares, self._divergence = (0.5, 0.5), symmetric_kl
            self._weight, self._cut = config.weight / 2, 0.0
        else:
            self._shares, self._divergence = (1.0, 0.0), kl
            self._weight, self._cut = config.weight, config.cut

    def __call__(self, model: Model, batch: Batch, record: AttentionRecord = NO_RECORD) -> LossSums:
        if not model.training:
            return predict(model, batch, self._precision, self._label_smoothing, record)
        with self._precision.autocast():
            first = model(batch, record)
            with cutting_tokens(self._cut):
                second = model(batch)
        passes = (
            for_loss(first.features, self._precision),
            for_loss(second.features, self._precision),
        )
        sums = consistent_cross_entropy(
            model.output, passes, first.targets, self._label_smoothing, self._shares,
            self._divergence, self._weight,
        )  # fmt: skip
        return LossSums(*sums)

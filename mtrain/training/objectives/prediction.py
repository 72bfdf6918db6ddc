"""Label-smoothed cross-entropy of the tokens that a model predicts.

The model says which these are: the target given the source, or masked tokens.
"""

from mtrain.config import Config
from mtrain.data.batch import Batch
from mtrain.models.base import NO_RECORD, AttentionRecord, Model
from mtrain.runtime.precision import Precision
from mtrain.training.objectives.base import LossSums, Objective, predict


class PredictionObjective(Objective):
    """Predict each token that the model names from what it may read."""

    def __init__(self, config: Config, precision: Precision) -> None:
        self._label_smoothing = config.training.label_smoothing
        self._precision = precision

    def __call__(self, model: Model, batch: Batch, record: AttentionRecord = NO_RECORD) -> LossSums:
        return predict(model, batch, self._precision, self._label_smoothing, record)

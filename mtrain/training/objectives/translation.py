"""Translation: label-smoothed cross-entropy of the target given the source."""

from mtrain.config import Config
from mtrain.data.batch import Batch
from mtrain.models.base import NO_RECORD, AttentionRecord, Model
from mtrain.runtime.precision import Precision
from mtrain.training.objectives.base import LossSums, Objective, predict


class TranslationObjective(Objective):
    """Predict each target token from the source and the target before it."""

    def __init__(self, config: Config, precision: Precision) -> None:
        self._label_smoothing = config.training.label_smoothing
        self._precision = precision

    def __call__(self, model: Model, batch: Batch, record: AttentionRecord = NO_RECORD) -> LossSums:
        return predict(model, batch, self._precision, self._label_smoothing, record)

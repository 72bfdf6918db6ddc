"""The contract of an objective: a model and a batch in, sums of losses out.

Shapes: N tokens to predict, D width.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from mtrain.data.batch import Batch
from mtrain.models.base import NO_RECORD, AttentionRecord, Model
from mtrain.runtime.precision import Precision


@dataclass(frozen=True)
class LossSums:
    """Sums over all tokens to predict in a batch; each is a scalar."""

    loss: Tensor  # to be minimised; has a gradient
    nll: Tensor  # plain negative log likelihood, for validation


class Objective(ABC):
    """A loss of a model on a batch.

    The loss must be a sum over pairs, so that a batch can be computed in parts: by threads,
    by processes, or sequentially after memory ran out.
    """

    @abstractmethod
    def __call__(self, model: Model, batch: Batch, record: AttentionRecord = NO_RECORD) -> LossSums:
        """Return the sums of a batch; the attention weights that `record` asks for go into it."""


def predict(
    model: Model,
    batch: Batch,
    precision: Precision,
    label_smoothing: float,
    record: AttentionRecord,
) -> LossSums:
    """Return the cross-entropy of a model's predictions.

    The model computes under autocast of `precision`; the loss is summed in fp32.
    """
    with precision.autocast():
        predictions = model(batch, record)
    features = for_loss(predictions.features, precision)
    sums = model.output.cross_entropy(
        features, predictions.targets, label_smoothing, predictions.has_static_shape
    )
    return LossSums(*sums)


def for_loss(features: Tensor, precision: Precision) -> Tensor:
    """Return features in the number format of the loss.

    The last layer may return fp32 or half precision; fp16 would lose small gradients.
    """
    return features.bfloat16() if precision.name == "bf16" else features.float()

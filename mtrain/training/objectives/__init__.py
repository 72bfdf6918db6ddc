"""Training objectives, one file each, registered under their name in `training.objective`."""

from collections.abc import Callable

from mtrain.config import Config
from mtrain.models import alignment_head
from mtrain.models.bert import Bert
from mtrain.runtime.precision import Precision
from mtrain.training.objectives.alignment_guidance import AlignmentGuidance
from mtrain.training.objectives.base import LossSums, Objective
from mtrain.training.objectives.consistency import Consistency
from mtrain.training.objectives.distillation import TokenDistillation
from mtrain.training.objectives.masked_distillation import MaskedDistillation
from mtrain.training.objectives.prediction import PredictionObjective

OBJECTIVES: dict[str, Callable[[Config, Precision], Objective]] = {
    "translation": PredictionObjective,
    "masked_lm": PredictionObjective,
}

__all__ = ["OBJECTIVES", "LossSums", "Objective", "build_objective"]


def build_objective(
    config: Config, precision: Precision, masked_teacher: Bert | None = None
) -> Objective:
    """Return the configured objective, with what teachers and given alignments add to it.

    A BERT learns from its `masked_teacher`, if there is one, in training only.
    """
    training = config.training
    objective = OBJECTIVES[training.objective](config, precision)
    if training.consistency is not None:
        objective = Consistency(training.consistency, training.label_smoothing, precision)
    if config.kept_top_k is not None:
        objective = TokenDistillation(objective, config, precision)
    if masked_teacher is not None:
        objective = MaskedDistillation(masked_teacher, config, precision)
    if config.data.has_alignments and training.alignment_weight:
        head = alignment_head(config)
        objective = AlignmentGuidance(objective, head, training.alignment_weight)
    return objective

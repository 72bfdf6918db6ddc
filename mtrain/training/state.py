"""The training state: model, optimisers, average, loss scale, position. All that a resume needs.

Independent of files: `weights`, `tensors` and `figures` export the state, `load` restores it.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mtrain.checkpoints.weights import put_weights
from mtrain.config.training import TrainingConfig
from mtrain.models.base import Model
from mtrain.runtime.precision import Precision
from mtrain.training.optimizer import (
    WeightAverage,
    build_optimizers,
    optimizer_tensors,
    restore_optimizers,
)
from mtrain.training.selection import freeze

OWN = "own/"  # prefix of the model's own weights, if `weights` is an average


@dataclass
class Position:
    """Progress of training."""

    update: int = 0
    epoch: int = 0  # of the stage
    batch: int = 0  # the next one in the epoch's plan
    stage: int = 0
    target_tokens: int = 0  # trained on so far
    minutes: float = 0.0  # trained so far, validation included
    skipped: int = 0  # updates whose loss or gradient was not finite
    validated_update: int = -1
    best: float | None = None  # value of the valid metric, higher is better
    validations_since_best: int = 0

    @property
    def is_validated(self) -> bool:
        """Whether the current weights have been validated."""
        return self.validated_update == self.update


class TrainState:
    """A model and everything that training changes; freezes parameters as configured."""

    def __init__(self, model: Model, config: TrainingConfig, precision: Precision) -> None:
        self.model = model
        self.precision = precision
        freeze(model, config.freeze)
        self.optimizers = build_optimizers(model, config, precision.type)
        self.average = WeightAverage(model, config.ema_decay)
        self.scaler = torch.amp.GradScaler("cuda", enabled=precision.scales_loss)
        self.position = Position()
        self.parameters = [p for p in model.parameters() if p.requires_grad]  # those that learn

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights for translation: the moving average if it is on, else the model's own."""
        return self.average.weights or self._own_weights()

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors besides `weights` that a resume needs."""
        tensors = optimizer_tensors(self.model, self.optimizers)
        if self.average.weights:
            tensors |= {OWN + name: weight for name, weight in self._own_weights().items()}
        return tensors

    def figures(self) -> dict[str, Any]:
        """Return the values besides tensors that a resume needs, for JSON."""
        return {"position": asdict(self.position), "scaler": self.scaler.state_dict()}

    def load(
        self,
        weights: dict[str, Tensor],
        tensors: dict[str, Tensor],
        figures: dict[str, Any],
        origin: str,
    ) -> None:
        """Restore what `weights`, `tensors` and `figures` returned.

        Raises `UserError`, naming `origin`, if the weights do not fit this model.
        """
        own = {key.removeprefix(OWN): tensor for key, tensor in tensors.items()
               if key.startswith(OWN)}  # fmt: skip
        put_weights(self.model, own or weights, origin)
        self.average.restore(weights)
        restore_optimizers(self.model, self.optimizers, tensors)
        if figures["scaler"]:  # empty if the loss was not scaled
            self.scaler.load_state_dict(figures["scaler"])
        self.position = Position(**figures["position"])

    def _own_weights(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.model.named_parameters()}

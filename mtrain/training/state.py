"""The training state: model, optimisers, average, loss scale, position. All that a resume needs.

Independent of files: `weights`, `tensors` and `figures` export the state, `load` restores it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mtrain.checkpoints.pieces import read_rows, shape_of
from mtrain.checkpoints.weights import put_weights, replaced_weights
from mtrain.config.training import TrainingConfig
from mtrain.distributed.sharding import filled, is_sharded, own_rows, sharded_like
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
    metric: str | None = None  # the valid metric of `best`
    best: float | None = None  # its value, higher is better
    validations_since_best: int = 0

    @property
    def is_validated(self) -> bool:
        """Whether the current weights have been validated."""
        return self.validated_update == self.update


class TrainState:
    """A model and everything that training changes; freezes parameters as configured."""

    def __init__(
        self,
        model: Model,
        config: TrainingConfig,
        precision: Precision,
        hollow: Model | None = None,
    ) -> None:
        """Take a model, and a `hollow_copy` of it if its parameters are sharded."""
        self.model = model
        self.precision = precision
        freeze(model, config.freeze)
        self.optimizers = build_optimizers(model, config, precision.type)
        self.average = WeightAverage(model, config.ema_decay)
        self.scaler = torch.amp.GradScaler("cuda", enabled=precision.scales_loss)
        self.position = Position(metric=config.valid_metric)
        self.parameters = [p for p in model.parameters() if p.requires_grad]  # those that learn
        self._hollow = hollow

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

    @property
    def is_sharded(self) -> bool:
        """Whether each process has only some rows of weights and optimiser state."""
        return self._hollow is not None

    @property
    def searched(self) -> Model:
        """The model to validate, which has weights inside `whole_model` only."""
        return self._hollow or self.model

    @contextmanager
    def whole_model(self, weights: Mapping[str, Tensor]) -> Iterator[Model]:
        """Yield `searched` with these weights, or with the model's own if there are none.

        Sharded weights are gathered: a search calls other functions than the `forward` that
        gathers them layer by layer, and calls them for each token.
        """
        if self._hollow is None:
            with replaced_weights(self.model, dict(weights)):
                yield self.model
        else:
            with filled(self._hollow, weights or self._own_weights()):
                yield self._hollow

    def load(
        self,
        weights: Mapping[str, Tensor],
        tensors: Mapping[str, Tensor],
        figures: dict[str, Any],
        origin: str,
    ) -> None:
        """Restore what `weights`, `tensors` and `figures` returned.

        Reads of each tensor no more than the rows of this process. Raises `UserError`, naming
        `origin`, if the weights do not fit this model.
        """
        parameters = dict(self.model.named_parameters())

        def placed(stored: Mapping[str, Tensor], key: str, name: str) -> Tensor:
            like = parameters.get(name)
            return stored[key] if like is None else read_like(stored, key, like)

        weights = {name: placed(weights, name, name) for name in weights}
        own = {key.removeprefix(OWN): placed(tensors, key, key.removeprefix(OWN))
               for key in tensors if key.startswith(OWN)}  # fmt: skip
        put_weights(self.model, own or weights, origin)
        self.average.restore(weights)
        states = {key: placed(tensors, key, key.rpartition("/")[0])
                  for key in tensors if not key.startswith(OWN)}  # fmt: skip
        restore_optimizers(self.model, self.optimizers, states)
        if figures["scaler"]:  # empty if the loss was not scaled
            self.scaler.load_state_dict(figures["scaler"])
        metric, self.position = self.position.metric, Position(**figures["position"])
        if self.position.metric not in (metric, None):  # values of two metrics do not compare
            self.position.best, self.position.validations_since_best = None, 0
        self.position.metric = metric

    def _own_weights(self) -> dict[str, Tensor]:
        return {name: parameter.detach() for name, parameter in self.model.named_parameters()}


def read_like(stored: Mapping[str, Tensor], key: str, parameter: Tensor) -> Tensor:
    """Return a stored tensor, shared out like a parameter of its shape if that is sharded."""
    shape = shape_of(stored, key)
    if not is_sharded(parameter) or shape != parameter.shape:  # such as a number of steps
        return stored[key]
    rows = read_rows(stored, key, own_rows(parameter))
    return sharded_like(rows, parameter, shape)

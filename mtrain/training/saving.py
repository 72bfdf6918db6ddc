"""What a sitting leaves for the next one, and takes over from the last: checkpoints of a run."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mtrain import __version__
from mtrain.console import say, warn
from mtrain.data.folders import RunFolder
from mtrain.errors import UserError
from mtrain.training.checkpoint import (
    DamagedCheckpoint,
    checkpoint_name,
    is_resumable,
    list_checkpoints,
    load_checkpoint,
    load_last_whole,
    prune,
    save_checkpoint,
    set_aside,
)
from mtrain.training.optimizer import optimizer_tensors, restore_optimizer
from mtrain.training.parts import Parts
from mtrain.training.validation import Validation

OWN = "own/"  # the model's own weights, where those to translate with are an average


@dataclass
class Position:
    """Where training stands. With the weights and the optimiser, all that going on needs."""

    update: int = 0
    epoch: int = 0
    batch: int = 0  # of the epoch's plan, the next one to use
    target_tokens: int = 0  # learnt from so far
    minutes: float = 0.0  # trained so far, validation included
    skipped: int = 0  # updates whose loss or gradient was not finite
    validated_update: int = -1
    best: float | None = None  # value of the valid metric, higher is better
    validations_since_best: int = 0

    @property
    def is_validated(self) -> bool:
        """Whether the present weights have been validated."""
        return self.validated_update == self.update


class Saver:
    """Writes and reads a run's checkpoints."""

    def __init__(self, parts: Parts, run: RunFolder) -> None:
        self._parts = parts
        self._folder = run.checkpoints
        self._saved: tuple[int, int] | None = None  # (update, validated_update) last written

    def save(self, position: Position, validation: Validation | None) -> None:
        """Write a checkpoint, unless the last one says the same."""
        stands = (position.update, position.validated_update)
        if not self._parts.group.is_first or self._saved == stands:
            return
        updater, model = self._parts.updater, self._parts.model
        training = optimizer_tensors(model, updater.optimizer)
        if self._parts.config.training.ema_decay:
            training |= {OWN + name: weight for name, weight in model.named_parameters()}
        weights = updater.average.weights()
        name = checkpoint_name(position.update)
        self._write(name, weights, training, position, validation)
        self._saved = stands

    def resume(self) -> tuple[Position, Validation | None]:
        """Put model and optimiser where the newest whole checkpoint has them, if there is one."""
        resumable = self._resumable()
        checkpoint = load_last_whole(resumable)
        if checkpoint is None:
            return Position(), None
        if checkpoint.state["identity"] != self._parts.identity:
            raise UserError(
                f"{checkpoint.path} was trained on other data or another tokenizer than "
                f"{self._parts.config.data_path} holds now",
                "give this configuration a run_dir of its own, or prepare the old data again",
            )
        updater, model = self._parts.updater, self._parts.model
        own = {key.removeprefix(OWN): tensor for key, tensor in checkpoint.training.items()
               if key.startswith(OWN)}  # fmt: skip
        put_weights(model, own or checkpoint.weights, str(checkpoint.path))
        updater.average.restore(checkpoint.weights)
        restore_optimizer(model, updater.optimizer, checkpoint.training)
        if checkpoint.state["scaler"]:  # empty where the loss was not scaled
            updater.scaler.load_state_dict(checkpoint.state["scaler"])
        position = Position(**checkpoint.state["position"])
        if position.batch and checkpoint.state.get("batches", "padded") != self._parts.maker.kind:
            position.epoch, position.batch = position.epoch + 1, 0
            warn("batches are others on this device: going on with the next epoch")
        self._saved = (position.update, position.validated_update)
        validation = checkpoint.state["validation"]
        if self._parts.group.is_first:
            say(f"going on from {checkpoint.path}")
            for damaged in resumable[resumable.index(checkpoint.path) + 1 :]:
                set_aside(damaged)  # else it would be kept for its figures in place of a whole one
        return position, Validation(**validation) if validation else None

    def mean_of_newest(self, count: int) -> tuple[dict[str, Tensor], int]:
        """Return the mean of the weights after the newest updates, and of how many it is."""
        updates = {path.stem: path for path in self._resumable()}  # of one update the last
        chosen = []
        for path in list(updates.values())[-count:]:
            try:
                chosen.append(load_checkpoint(path).weights)
            except DamagedCheckpoint as error:
                warn(f"{error.message}; left out of the average")
        names = chosen[0]
        mean = {name: torch.stack([weights[name] for weights in chosen]).mean(0) for name in names}
        return mean, len(chosen)

    def save_average(
        self, weights: dict[str, Tensor], position: Position, validation: Validation
    ) -> None:
        """Write weights that can be translated with, but not trained on from."""
        name = f"{checkpoint_name(position.update)}.average"
        self._write(name, weights, {}, position, validation)

    def has_average(self, position: Position) -> bool:
        """Tell whether `save_average` has been done."""
        return (self._folder / f"{checkpoint_name(position.update)}.average").exists()

    def _resumable(self) -> list[Path]:
        return [path for path in list_checkpoints(self._folder) if is_resumable(path)]

    def _write(
        self,
        name: str,
        weights: dict[str, Tensor],
        training: dict[str, Tensor],
        position: Position,
        validation: Validation | None,
    ) -> None:
        state = {
            "mtrain": __version__,
            "position": asdict(position),
            "identity": self._parts.identity,
            "batches": self._parts.maker.kind,
            "scaler": self._parts.updater.scaler.state_dict(),
            "validation": validation.as_dict() if validation and position.is_validated else None,
        }
        save_checkpoint(self._folder, name, weights, training, state)
        config = self._parts.config.training
        prune(self._folder, config.valid_metric, config.keep_best, config.keep_last)


@torch.no_grad()
def put_weights(
    model: nn.Module, weights: dict[str, Tensor], origin: str = "the checkpoint"
) -> None:
    """Copy weights into a model's parameters, which must be the same ones."""
    parameters = dict(model.named_parameters())
    if parameters.keys() != weights.keys() or any(
        parameter.shape != weights[name].shape for name, parameter in parameters.items()
    ):
        raise UserError(
            f"{origin}: these weights are not those of the configured model",
            "the run folder's config.yaml and its checkpoints must come from the same run",
        )
    for name, parameter in parameters.items():
        parameter.copy_(weights[name])

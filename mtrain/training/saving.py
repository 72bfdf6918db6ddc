"""Saves training into the checkpoints of a run, and resumes it from them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtrain import __version__
from mtrain.checkpoints.collection import (
    is_resumable,
    list_checkpoints,
    load_last_whole,
    prune,
    set_aside,
)
from mtrain.checkpoints.format import (
    DamagedCheckpoint,
    checkpoint_name,
    load_checkpoint,
    save_checkpoint,
)
from mtrain.config.training import TrainingConfig
from mtrain.console import say, warn
from mtrain.errors import UserError
from mtrain.training.state import TrainState
from mtrain.training.validation import Validation


@dataclass(frozen=True)
class Identity:
    """What must match for a checkpoint to be resumable."""

    store: str  # fingerprint of the training tokens
    tokenizers: str  # their digest
    batches: str  # kind of batches; of another kind, the epoch's plan is another one
    folder: Path  # of the data, for errors

    def matches(self, state: dict[str, Any]) -> bool:
        """Tell whether a checkpoint was trained on these data."""
        data: dict[str, str] = state["identity"]
        return data == self.data

    @property
    def data(self) -> dict[str, str]:
        """The part that decides whether a checkpoint belongs to these data."""
        return {"store": self.store, "tokenizers": self.tokenizers}


class Saver:
    """Writes and reads a run's checkpoints; only the first process of several writes."""

    def __init__(
        self,
        state: TrainState,
        folder: Path,
        config: TrainingConfig,
        identity: Identity,
        is_first: bool,
    ) -> None:
        self._state = state
        self._folder = folder
        self._config = config
        self._identity = identity
        self._is_first = is_first
        self._saved: tuple[int, int] | None = None  # (update, validated_update) last written

    def save(self, validation: Validation | None) -> None:
        """Write a checkpoint, unless the last one says the same."""
        position = self._state.position
        stands = (position.update, position.validated_update)
        if not self._is_first or self._saved == stands:
            return
        name = checkpoint_name(position.update)
        self._write(name, self._state.weights, self._state.tensors(), validation)
        self._saved = stands

    def resume(self) -> Validation | None:
        """Restore the newest whole checkpoint, if there is one; return its validation.

        Raises `UserError` if it was trained on other data.
        """
        resumable = self._resumable()
        checkpoint = load_last_whole(resumable, with_training=True)
        if checkpoint is None:
            return None
        if not self._identity.matches(checkpoint.state):
            raise UserError(
                f"{checkpoint.path} was trained on other data or another tokenizer than "
                f"{self._identity.folder} holds now",
                "give this configuration a run_dir of its own, or prepare the old data again",
            )
        origin = str(checkpoint.path)
        self._state.load(checkpoint.weights, checkpoint.training, checkpoint.state, origin)
        position = self._state.position
        kind = checkpoint.state.get("batches", "padded")
        if position.batch and kind != self._identity.batches:
            position.epoch, position.batch = position.epoch + 1, 0
            warn("this device has other batches: resuming at the next epoch")
        self._saved = (position.update, position.validated_update)
        if self._is_first:
            say(f"resuming from {checkpoint.path}")
            for damaged in resumable[resumable.index(checkpoint.path) + 1 :]:
                set_aside(damaged)  # else it could be kept, for its figures, instead of a whole one
        validation = checkpoint.state["validation"]
        return Validation(**validation) if validation else None

    def mean_of_newest(self, count: int) -> tuple[dict[str, Tensor], int] | None:
        """Return the mean of the newest checkpoints' weights, and of how many it is.

        Leaves out damaged ones with a warning; returns None if none is whole.
        """
        updates = {path.stem: path for path in self._resumable()}  # the last of each update
        chosen = []
        for path in list(updates.values())[-count:]:
            try:
                chosen.append(load_checkpoint(path, with_training=False).weights)
            except DamagedCheckpoint as error:
                warn(f"{error.message}; left out of the average")
        if not chosen:
            return None
        names = chosen[0]
        mean = {name: torch.stack([weights[name] for weights in chosen]).mean(0) for name in names}
        return mean, len(chosen)

    def save_average(self, weights: dict[str, Tensor], validation: Validation) -> None:
        """Write weights to translate with; training cannot resume from them."""
        self._write(self._average_name, weights, {}, validation)

    def has_average(self) -> bool:
        """Tell whether `save_average` has been done."""
        return (self._folder / self._average_name).exists()

    @property
    def _average_name(self) -> str:
        return f"{checkpoint_name(self._state.position.update)}.average"

    def _resumable(self) -> list[Path]:
        return [path for path in list_checkpoints(self._folder) if is_resumable(path)]

    def _write(
        self,
        name: str,
        weights: dict[str, Tensor],
        training: dict[str, Tensor],
        validation: Validation | None,
    ) -> None:
        is_validated = validation is not None and self._state.position.is_validated
        state = {
            "mtrain": __version__,
            **self._state.figures(),
            "identity": self._identity.data,
            "batches": self._identity.batches,
            "validation": validation.as_dict() if validation and is_validated else None,
        }
        save_checkpoint(self._folder, name, weights, training, state)
        config = self._config
        prune(self._folder, config.valid_metric, config.keep_best, config.keep_last)

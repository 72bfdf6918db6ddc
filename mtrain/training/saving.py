"""Saves training to the checkpoints of a run, and resumes from them.

Training stands still only while its tensors are copied; a thread writes the copy.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from mtrain import __version__
from mtrain.checkpoints.background import BackgroundWriter, Snapshot
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
    weights_digest,
)
from mtrain.config.decoding import DecodingConfig
from mtrain.config.training import TrainingConfig
from mtrain.console import say, warn
from mtrain.data.folders import RunFolder
from mtrain.distributed.group import ProcessGroup
from mtrain.errors import UserError
from mtrain.evaluation.kept import KeptTranslations, write_kept
from mtrain.evaluation.scored import SetTexts
from mtrain.training.save_together import prepare_together
from mtrain.training.state import TrainState
from mtrain.training.validation import Validation


@dataclass(frozen=True)
class Identity:
    """What must match for a checkpoint to be resumable."""

    store: str  # fingerprint of the training tokens
    tokenizers: str  # their digest
    batches: str  # kind of batches; another kind has another plan of the epoch
    folder: Path  # data folder, for error messages
    teacher: str | None = None  # identity of what teaches beside the student

    @property
    def data(self) -> dict[str, str]:
        """The fields that tie a checkpoint to its data, and to its teacher."""
        teacher = {} if self.teacher is None else {"teacher": self.teacher}
        return {"store": self.store, "tokenizers": self.tokenizers, **teacher}


def resumable_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints that training may resume from, oldest first."""
    return [path for path in list_checkpoints(folder) if is_resumable(path)]


class Saver:
    """Writes and reads a run's checkpoints.

    Only the first process of several writes, unless each has other rows of the weights.

    Writes in the background, one checkpoint at a time: `wait` returns when it is on disk, and so
    does the end of the block that this is a context manager of. An error of writing is raised by
    the next call of `save`, `save_average`, `wait` or `raise_failure`.
    """

    def __init__(
        self,
        state: TrainState,
        folder: Path,
        config: TrainingConfig,
        decoding: DecodingConfig,
        identity: Identity,
        group: ProcessGroup,
    ) -> None:
        self._state = state
        self._folder = folder
        self._config = config
        self._decoding = decoding
        self._identity = identity
        self._group = group
        self._saved: tuple[int, int] | None = None  # (update, validated_update) last saved
        self._writer = BackgroundWriter()
        self._weights, self._training = Snapshot(), Snapshot()

    def __enter__(self) -> "Saver":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.__exit__(kind, error, traceback)

    def wait(self) -> None:
        """Return when all that was saved is on disk."""
        self._writer.wait()

    def raise_failure(self) -> None:
        """Raise the error of a checkpoint that could not be written; never waits."""
        self._writer.raise_failure()

    def save(self, validation: Validation | None, translated: Sequence[SetTexts] = ()) -> None:
        """Begin to write a checkpoint, unless nothing has changed since the last one.

        If it is the best, keep its translations of valid for the report. Waits for the checkpoint
        before it.
        """
        position = self._state.position
        stands = (position.update, position.validated_update)
        writes = self._group.is_first or self._state.is_sharded
        if not writes or self._saved == stands:
            return
        name = checkpoint_name(position.update)
        weights, tensors = self._state.weights, self._state.tensors()
        self._write(name, weights, tensors, validation, translated)
        self._saved = stands

    def resume(self) -> Validation | None:
        """Restore the newest undamaged checkpoint, if any; return its validation.

        Raises `UserError` if it was trained on other data.
        """
        resumable = self._resumable()
        checkpoint = load_last_whole(resumable, with_training=True)
        if checkpoint is None:
            return None
        identity = checkpoint.state["identity"]
        if identity.get("teacher") != self._identity.teacher:
            raise UserError(
                f"{checkpoint.path} was trained with another teacher than distillation.teachers "
                "names now, or with other weights of it",
                "give this configuration a run_dir of its own, or name the old teacher again",
            )
        if identity != self._identity.data:
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
        if self._group.is_first:
            say(f"resuming from {checkpoint.path}")
            for damaged in resumable[resumable.index(checkpoint.path) + 1 :]:
                set_aside(damaged)  # else its scores could keep it in place of an undamaged one
        validation = checkpoint.state["validation"]
        return Validation.from_dict(validation) if validation else None

    def mean_of_newest(self, count: int) -> tuple[dict[str, Tensor], int] | None:
        """Return the mean weights of the newest checkpoints, and the number averaged.

        Leaves out damaged ones with a warning; returns None if all are damaged.
        """
        self.wait()
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

    def save_average(
        self,
        weights: dict[str, Tensor],
        validation: Validation,
        translated: Sequence[SetTexts] = (),
    ) -> None:
        """Begin to write averaged weights to translate with; training cannot resume from them."""
        self._write(self._average_name, weights, {}, validation, translated)

    def has_average(self) -> bool:
        """Tell whether `save_average` has written its checkpoint."""
        return (self._folder / self._average_name).exists()

    @property
    def _average_name(self) -> str:
        return f"{checkpoint_name(self._state.position.update)}.average"

    def _resumable(self) -> list[Path]:
        return resumable_checkpoints(self._folder)

    def _write(
        self,
        name: str,
        weights: dict[str, Tensor],
        training: dict[str, Tensor],
        validation: Validation | None,
        translated: Sequence[SetTexts],
    ) -> None:
        """Copy what changes with the next update, and let the thread write the copy."""
        is_validated = validation is not None and self._state.position.is_validated
        state = {
            "mtrain": __version__,
            **self._state.figures(),
            "identity": self._identity.data,
            "batches": self._identity.batches,
            "device": self._state.precision.device.type,
            "precision": self._state.precision.name,
            "validation": validation.as_dict() if validation and is_validated else None,
        }
        self.wait()  # else the copies of the checkpoint before would change while it is written
        write: Callable[[], Path | None]
        if self._state.is_sharded and training:
            self._group.share(0)  # all have written the checkpoint before
            write = prepare_together(
                self._folder / name, self._state, state, self._group, self._training
            )
        else:
            tensors = self._weights.take(weights), self._training.take(training)
            write = partial(save_checkpoint, self._folder, name, *tensors, state)
        self._writer.start(partial(self._publish, write, translated))

    def _publish(self, write: Callable[[], Path | None], translated: Sequence[SetTexts]) -> None:
        """Write a checkpoint, then remove older ones; if it is the best, keep what it translated.

        Runs in the writer's thread.
        """
        path, config = write(), self._config
        if path is None:
            return
        best = prune(self._folder, config.valid_metric, config.keep_best, config.keep_last)
        if translated and path == best:
            searched = self._decoding.model_dump(mode="json")
            kept = KeptTranslations(path.name, weights_digest(path), searched, translated)
            _keep(RunFolder(self._folder.parent), kept)


def _keep(run: RunFolder, kept: KeptTranslations) -> None:
    """Keep translations; without them, the report translates once more."""
    try:
        write_kept(run.valid_path, kept)
    except OSError as error:
        warn(f"{run.valid_path} could not be written: {error.strerror}")

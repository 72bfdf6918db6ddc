"""The training loop: update, validate, save, stop.

All processes make the same decisions, from numbers that they share once per update.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from mtrain.config.data import Stage
from mtrain.config.training import TrainingConfig
from mtrain.console import Progress, format_seconds, progress, say, warn
from mtrain.data.prefetch import Prefetcher
from mtrain.data.updates import PlannedUpdate
from mtrain.distributed.group import ProcessGroup
from mtrain.errors import Interrupted, UserError
from mtrain.evaluation.scored import SetTexts
from mtrain.evaluation.ties import TieWatch
from mtrain.training.log import Meter, MetricsLog
from mtrain.training.saving import Saver
from mtrain.training.schedule import last_update, learning_rate
from mtrain.training.signals import StopSignal
from mtrain.training.state import TrainState
from mtrain.training.updater import Updater, UpdateResult
from mtrain.training.validation import Validation, Validator

MAX_SKIPPED_IN_A_ROW = 20


class _StopRequested(Exception):
    """A signal arrived during work that can be abandoned."""


class Trainer:
    """Trains from a given state to the end, or until a signal."""

    def __init__(
        self,
        config: TrainingConfig,
        stages: Sequence[Stage],
        state: TrainState,
        updater: Updater,
        updates: Callable[[int, int, int], Iterator[PlannedUpdate]],
        validator: Validator,
        validation: Validation | None,
        saver: Saver,
        log: MetricsLog | None,
        group: ProcessGroup,
        stop: StopSignal,
    ) -> None:
        """Take over `state`; `validation` is its last one, `log` is None on all processes but the
        first."""
        self._config = config
        self._stages = stages
        self._state = state
        self._updater = updater
        self._updates = updates
        self._validator = validator
        self._validation = validation
        self._saver = saver
        self._log = log
        self._group = group
        self._stop = stop
        self._meter = Meter()
        self._ties = TieWatch(self._config.valid_metric, self._config.patience)
        self._skipped_in_a_row = 0
        self._seems_healthy = state.position.validated_update >= 0  # see `_diagnose`
        self._validation_minutes = 0.0  # of the last validation
        self._started = time.monotonic() - 60 * state.position.minutes

    def run(self) -> None:
        """Train to the end. Raises `Interrupted` after saving when a signal asks to stop."""
        position = self._state.position
        self._feed = self._open_feed()
        try:
            with (
                self._saver,
                self._group.explaining(),
                progress("training", None, "updates", position.update) as shown,
            ):
                self._loop(shown)
        finally:
            self._feed.close()
            if self._log is not None:
                self._log.close()
        self._say(
            f"finished: {position.update:,} updates, {position.target_tokens:,} "
            f"{self._config.predicted} tokens, "
            f"{format_seconds(60 * position.minutes)}, {position.skipped} updates skipped"
        )

    def _open_feed(self) -> Prefetcher[PlannedUpdate]:
        position = self._state.position
        return Prefetcher(self._updates(position.stage, position.epoch, position.batch))

    def _loop(self, shown: Progress) -> None:
        position, save_every = self._state.position, self._config.save_every
        while True:
            if self._group.size == 1:  # several processes stop in `_share`
                self._stop_if(self._stop.number)
            is_finished = self._is_finished()
            try:
                if not position.is_validated and (is_finished or self._is_time_to_validate()):
                    self._validate()
                    self._save(self._translated())
                elif is_finished:
                    self._average_checkpoints()
                    return
                else:
                    if save_every and position.update and position.update % save_every == 0:
                        self._save()
                    while self._stage_has_ended():
                        self._begin_next_stage()
                    self._saver.raise_failure()
                    self._update(shown)
            except _StopRequested:
                continue

    def _stage_has_ended(self) -> bool:
        position = self._state.position
        if position.stage >= len(self._stages) - 1:
            return False
        stage = self._stages[position.stage]
        return (stage.until is not None and position.update >= stage.until) or (
            stage.plateau is not None and position.validations_since_best >= stage.plateau
        )

    def _begin_next_stage(self) -> None:
        position = self._state.position
        position.stage, position.epoch, position.batch = position.stage + 1, 0, 0
        position.validations_since_best = 0
        self._feed.close()
        self._feed = self._open_feed()
        self._say(f"update {position.update}: stage {position.stage + 1} of {len(self._stages)}")
        self._write("stage", stage=position.stage + 1)

    # -- one update -----------------------------------------------------------------------------

    def _update(self, shown: Progress) -> None:
        position, config, feed = self._state.position, self._config, self._feed
        waited, started = feed.seconds_waited, time.perf_counter()
        self._group.note(f"update {position.update + 1}")
        planned = next(feed)
        num_tokens = self._share(planned)
        rate = learning_rate(position.update, self._last_update(), config)
        result = self._updater.update(
            position.update, planned.batches, num_tokens, rate, self._raise_if_stopped
        )
        self._meter.note(result, time.perf_counter() - started, feed.seconds_waited - waited)
        position.update += 1
        position.epoch, position.batch = planned.next_epoch, planned.next_batch
        position.target_tokens += result.num_tokens
        if self._group.size == 1:
            position.minutes = self._minutes()
        speed = f"{self._meter.tokens_per_second:,.0f} {config.predicted} tokens/s"
        note = f"loss {result.loss:.3f}, {speed}"
        if config.max_minutes is not None:
            note += f", {position.minutes:.1f} of {config.max_minutes:g} minutes"
        shown.advance(1, note, total=self._last_update())
        self._check_finite(result)
        if position.update % config.log_every == 0:
            self._write(
                "train",
                epoch=position.epoch,
                minutes=position.minutes,
                target_tokens=position.target_tokens,
                learning_rate=rate,
                skipped=position.skipped,
                **self._meter.figures(),
            )
            self._meter = Meter()

    def _share(self, planned: PlannedUpdate) -> int:
        """Return the target tokens of an update's batches on all processes.

        The same message shares clock and signals; a signal to one process stops all.
        """
        own = sum(batch.num_target_tokens for batch in planned.batches)
        if self._group.size == 1:
            return own
        shared = self._group.share(own, self._minutes(), self._stop.number)
        tokens, minutes, signals = zip(*shared, strict=True)
        self._state.position.minutes = max(minutes)
        self._stop_if(int(max(signals)))
        return int(sum(tokens))

    def _check_finite(self, result: UpdateResult) -> None:
        if result.is_finite:
            self._skipped_in_a_row = 0
            return
        position = self._state.position
        position.skipped += 1
        self._skipped_in_a_row += 1
        self._say(
            f"update {position.update} skipped: loss {result.loss}, "
            f"gradient norm {result.gradient_norm}"
        )
        if self._skipped_in_a_row == MAX_SKIPPED_IN_A_ROW:
            self._save_to_disk()
            raise UserError(
                f"{MAX_SKIPPED_IN_A_ROW} updates in a row gave no finite gradient; the last good "
                "weights are saved",
                "lower training.learning_rate, lengthen training.warmup_updates, or use "
                "training.precision: bf16 or fp32; each needs a run_dir of its own",
            )

    # -- when -----------------------------------------------------------------------------------

    def _minutes(self) -> float:
        """Return the minutes of training so far by the clock of this process."""
        return (time.monotonic() - self._started) / 60

    def _minutes_spent(self) -> float:
        """Return the used minutes of the budget, plus those to reserve for a last validation."""
        return self._state.position.minutes + self._validation_minutes

    def _last_update(self) -> int:
        return last_update(self._state.position.update, self._minutes_spent(), self._config)

    def _is_finished(self) -> bool:
        position, config = self._state.position, self._config
        is_late = config.max_minutes is not None and self._minutes_spent() >= config.max_minutes
        is_last_stage = position.stage >= len(self._stages) - 1
        is_stuck = is_last_stage and 0 < config.patience <= position.validations_since_best
        return position.update >= config.max_updates or is_late or is_stuck

    def _is_time_to_validate(self) -> bool:
        update = self._state.position.update
        return update > 0 and update % self._config.valid_every == 0

    def _raise_if_stopped(self) -> None:
        if self._stop.number and self._group.size == 1:
            raise _StopRequested

    def _stop_if(self, signal_number: int) -> None:
        if signal_number:
            self._save_to_disk()
            raise Interrupted(
                signal_number,
                f"stopped by a signal, saved after update {self._state.position.update}; "
                "run the same command again to resume",
            )

    def _save_to_disk(self) -> None:
        """Save, and return on all processes when the checkpoint is on disk.

        torchrun ends all processes as soon as one has left.
        """
        self._save()
        self._saver.wait()
        self._group.share(0)

    def _save(self, translated: Sequence[SetTexts] = ()) -> None:
        self._group.note(f"saving after update {self._state.position.update}")
        self._saver.save(self._validation, translated)

    # -- validation -----------------------------------------------------------------------------

    def _validate(self) -> None:
        """Validate the current weights; the processes share the sentences."""
        position, started = self._state.position, time.monotonic()
        self._validation = self._measure(self._state.average.weights, self._group)
        self._note_quality(self._validation)
        if not self._seems_healthy:
            self._diagnose(self._validation)
        position.validated_update = position.update
        seconds = time.monotonic() - started
        shared = self._group.share(self._minutes(), seconds / 60)
        position.minutes, self._validation_minutes = map(max, zip(*shared, strict=True))
        self._write_validation(self._validation)

    def _measure(self, weights: dict[str, Tensor], group: ProcessGroup) -> Validation:
        """Validate the model with `weights`, or with its own if `weights` is empty."""
        phase = f"validating after update {self._state.position.update}"
        self._group.note(phase)
        num_sentences = -(-len(self._validator) // group.size)
        with (
            progress("validating", num_sentences, "sentences") as shown,
            self._state.whole_model(weights) as model,
        ):

            def on_progress(count: int) -> None:
                self._raise_if_stopped()
                self._group.note(phase)
                shown.advance(count)

            validation = self._validator.validate(model, on_progress, group)
        minutes = format_seconds(60 * self._minutes())
        self._say(f"update {self._state.position.update}, {minutes}: {validation}")
        return validation

    def _diagnose(self, validation: Validation) -> None:
        """Warn of what seems wrong, at every validation until one finds nothing."""
        with self._state.whole_model(self._state.average.weights) as model:
            message = self._validator.valid.diagnose(model, validation, self._group)
        self._seems_healthy = message is None
        if message is not None and self._group.is_first:
            warn(message)

    def _note_quality(self, validation: Validation) -> None:
        position, metric = self._state.position, self._config.valid_metric
        value = getattr(validation, metric)
        quality = -value if metric == "loss" else value
        best = -math.inf if position.best is None else position.best
        if self._group.is_first:
            self._ties.note(value, best)
        if quality > best:  # false for NaN
            position.best, position.validations_since_best = quality, 0
        else:
            position.validations_since_best += 1

    def _average_checkpoints(self) -> None:
        """Save the mean of the newest checkpoints as one more, validated like any other."""
        count = self._config.average_checkpoints
        if not count or not self._group.is_first or self._saver.has_average():
            return
        mean = self._saver.mean_of_newest(count)
        if mean is None:
            warn("training.average_checkpoints: no checkpoint is whole, so none is averaged")
            return
        weights, averaged = mean
        self._say(f"average of the newest {averaged} checkpoints:")
        validation = self._measure(weights, ProcessGroup.alone())
        self._write_validation(validation, averaged=averaged)
        self._saver.save_average(weights, validation, self._translated())

    def _translated(self) -> list[SetTexts]:
        """Return what valid was translated to last, in the process that writes it."""
        return self._validator.valid.translated("valid") if self._group.is_first else []

    def _write_validation(self, validation: Validation, **marks: Any) -> None:
        position = self._state.position
        self._write(
            "valid",
            minutes=position.minutes,
            target_tokens=position.target_tokens,
            **validation.as_dict(),
            **marks,
        )

    def _write(self, kind: str, **figures: Any) -> None:
        if self._log is not None:
            self._log.write(kind, self._state.position.update, **figures)

    def _say(self, message: str) -> None:
        if self._group.is_first:
            say(message)

"""The training loop: update, validate, save, stop; and going on where another one stopped."""

import math
import time
from typing import Any

from torch import Tensor

from mtrain.console import Progress, format_seconds, progress, say
from mtrain.data.batches import PlannedUpdate, Prefetcher
from mtrain.data.folders import RunFolder
from mtrain.errors import Interrupted, UserError
from mtrain.evaluation.ties import TieWatch
from mtrain.training.log import Meter, MetricsLog
from mtrain.training.parts import Parts
from mtrain.training.saving import Saver, put_weights
from mtrain.training.schedule import last_update, learning_rate
from mtrain.training.signals import StopSignal
from mtrain.training.updater import UpdateResult
from mtrain.training.validation import Validation

MAX_SKIPPED_IN_A_ROW = 20


class _StopRequested(Exception):
    """A signal came while something was under way that need not be finished."""


class Trainer:
    """One sitting of a run."""

    def __init__(self, parts: Parts, run: RunFolder) -> None:
        self._parts = parts
        self._config = parts.config.training
        self._run = run
        self._stop = StopSignal()
        self._meter = Meter()
        self._ties = TieWatch(self._config.valid_metric, self._config.patience)
        self._skipped_in_a_row = 0
        self._validation_minutes = 0.0  # that the last validation took
        self._saver = Saver(parts, run)
        self._position, self._validation = self._saver.resume()
        self._started = time.monotonic() - 60 * self._position.minutes
        self._log: MetricsLog | None = None
        if parts.group.is_first:
            update = self._position.update
            self._log = MetricsLog(run.metrics_path, update, self._config.tensorboard)

    def run(self) -> None:
        """Train to the end. Raises `Interrupted` after saving when a signal asks to stop."""
        position, parts = self._position, self._parts
        count = sum(parameter.numel() for parameter in parts.model.parameters())
        self._say(
            f"training {parts.config.model.type}, {count:,} parameters, on "
            f"{len(parts.store):,} pairs, on {parts.precision.device} in {parts.precision.name}: "
            f"{parts.precision.reason}"
        )
        feed = Prefetcher(parts.updates(position.epoch, position.batch))
        try:
            with self._stop, progress("training", None, "updates", position.update) as shown:
                self._loop(feed, shown)
        finally:
            feed.close()
            if self._log is not None:
                self._log.close()
        self._say(
            f"finished: {position.update:,} updates, {position.target_tokens:,} target tokens, "
            f"{format_seconds(60 * position.minutes)}, {position.skipped} updates skipped"
        )

    def _loop(self, feed: Prefetcher[PlannedUpdate], shown: Progress) -> None:
        position, save_every = self._position, self._config.save_every
        while True:
            self._stop_if_asked()
            is_finished = self._is_finished()
            try:
                if not position.is_validated and (is_finished or self._is_time_to_validate()):
                    self._validate()
                    self._saver.save(position, self._validation)
                elif is_finished:
                    self._average_checkpoints()
                    return
                else:
                    if save_every and position.update and position.update % save_every == 0:
                        self._saver.save(position, self._validation)
                    self._update(feed, shown)
            except _StopRequested:
                continue

    # -- one update -----------------------------------------------------------------------------

    def _update(self, feed: Prefetcher[PlannedUpdate], shown: Progress) -> None:
        position, config = self._position, self._config
        waited, started = feed.seconds_waited, time.perf_counter()
        planned = next(feed)
        rate = learning_rate(position.update, self._last_update(), config)
        result = self._parts.updater.update(
            position.update, planned.batches, rate, self._raise_if_stopped
        )
        self._meter.note(result, time.perf_counter() - started, feed.seconds_waited - waited)
        position.update += 1
        position.epoch, position.batch = planned.next_epoch, planned.next_batch
        position.target_tokens += result.num_tokens
        position.minutes = self._minutes()
        note = f"loss {result.loss:.3f}, {self._meter.tokens_per_second:,.0f} target tokens/s"
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

    def _check_finite(self, result: UpdateResult) -> None:
        if result.is_finite:
            self._skipped_in_a_row = 0
            return
        self._position.skipped += 1
        self._skipped_in_a_row += 1
        self._say(
            f"update {self._position.update} skipped: loss {result.loss}, "
            f"gradient norm {result.gradient_norm}"
        )
        if self._skipped_in_a_row == MAX_SKIPPED_IN_A_ROW:
            self._saver.save(self._position, self._validation)
            raise UserError(
                f"{MAX_SKIPPED_IN_A_ROW} updates in a row gave no finite gradient; the last good "
                f"weights are saved in {self._run.checkpoints}",
                "lower training.learning_rate, lengthen training.warmup_updates, or use "
                "training.precision: bf16 or fp32; each needs a run_dir of its own",
            )

    # -- when -----------------------------------------------------------------------------------

    def _minutes(self) -> float:
        """Minutes of training so far; the same on all processes where it decides anything."""
        minutes = (time.monotonic() - self._started) / 60
        if self._config.max_minutes is None:
            return minutes
        return self._parts.group.maximum(minutes, self._parts.precision.device)

    def _minutes_spent(self) -> float:
        """Minutes of the budget used, those that the last validation will take included."""
        return self._position.minutes + self._validation_minutes

    def _last_update(self) -> int:
        return last_update(self._position.update, self._minutes_spent(), self._config)

    def _is_finished(self) -> bool:
        position, config = self._position, self._config
        is_late = config.max_minutes is not None and self._minutes_spent() >= config.max_minutes
        is_stuck = 0 < config.patience <= position.validations_since_best
        return position.update >= config.max_updates or is_late or is_stuck

    def _is_time_to_validate(self) -> bool:
        return self._position.update > 0 and self._position.update % self._config.valid_every == 0

    def _raise_if_stopped(self) -> None:
        # several processes stop between updates only, all at the same one
        if self._stop.number and self._parts.group.size == 1:
            raise _StopRequested

    def _stop_if_asked(self) -> None:
        number = int(self._parts.group.maximum(self._stop.number, self._parts.precision.device))
        if number:
            self._saver.save(self._position, self._validation)
            raise Interrupted(
                number,
                f"stopped by a signal, saved after update {self._position.update}; "
                "run the same command again to go on",
            )

    # -- validation -----------------------------------------------------------------------------

    def _validate(self) -> None:
        """Measure the present weights; the first process does, the others wait for its verdict."""
        position, group = self._position, self._parts.group
        started = time.monotonic()
        if group.is_first:
            self._validation = self._measure(self._parts.updater.average.weights())
            self._note_quality(self._validation)
        device = self._parts.precision.device
        waited = position.validations_since_best if group.is_first else 0
        position.validations_since_best = int(group.maximum(waited, device))
        position.validated_update = position.update
        position.minutes = self._minutes()
        self._validation_minutes = group.maximum((time.monotonic() - started) / 60, device)
        if self._validation is not None:
            self._write_validation(self._validation)

    def _measure(self, weights: dict[str, Tensor]) -> Validation:
        """Validate `weights` in place of the model's own, which are put back."""
        model, validator = self._parts.model, self._parts.validator
        own = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        with progress("validating", len(validator), "sentences") as shown:

            def on_progress(count: int) -> None:
                self._raise_if_stopped()
                shown.advance(count)

            put_weights(model, weights)
            try:
                validation = validator.validate(model, on_progress)
            finally:
                put_weights(model, own)
        minutes = format_seconds(60 * self._minutes())
        self._say(f"update {self._position.update}, {minutes}: {validation}")
        return validation

    def _note_quality(self, validation: Validation) -> None:
        value = getattr(validation, self._config.valid_metric)
        quality = -value if self._config.valid_metric == "loss" else value
        best = -math.inf if self._position.best is None else self._position.best
        self._ties.note(value, best)
        if quality > best:  # which what is no number never is
            self._position.best, self._position.validations_since_best = quality, 0
        else:
            self._position.validations_since_best += 1

    def _average_checkpoints(self) -> None:
        """Add the mean of the newest checkpoints to them, measured like any other."""
        count, position = self._config.average_checkpoints, self._position
        if count and self._parts.group.is_first and not self._saver.has_average(position):
            weights, averaged = self._saver.mean_of_newest(count)
            self._say(f"average of the newest {averaged} checkpoints:")
            validation = self._measure(weights)
            self._write_validation(validation, averaged=averaged)
            self._saver.save_average(weights, position, validation)

    def _write_validation(self, validation: Validation, **marks: Any) -> None:
        position = self._position
        self._write(
            "valid",
            minutes=position.minutes,
            target_tokens=position.target_tokens,
            **validation.as_dict(),
            **marks,
        )

    def _write(self, kind: str, **figures: Any) -> None:
        if self._log is not None:
            self._log.write(kind, self._position.update, **figures)

    def _say(self, message: str) -> None:
        if self._parts.group.is_first:
            say(message)

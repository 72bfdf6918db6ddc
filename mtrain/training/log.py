"""The training log: metrics.jsonl, and TensorBoard events on request."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtrain.errors import missing_extra
from mtrain.text.lines import write_whole
from mtrain.training.updater import UpdateResult

METRICS = {"bleu": "BLEU", "chrf": "chrF", "accuracy": "accuracy"}  # column titles


class MetricsLog:
    """Appends events to metrics.jsonl; on a resume, drops events after the resumed position."""

    def __init__(
        self, path: Path, resume_update: int, tensorboard: bool, resume_stage: int = 0
    ) -> None:
        kept = [event for event in read_metrics(path) if event["update"] <= resume_update
                and event.get("stage", 0) <= resume_stage + 1]  # fmt: skip
        with write_whole(path) as file:
            file.writelines(_as_line(event).encode() for event in kept)
        self._file = path.open("a", encoding="utf-8")
        self._writer = _tensorboard_writer(path.parent / "tensorboard") if tensorboard else None

    def write(self, kind: str, update: int, **figures: Any) -> None:
        """Write an event of a kind (train, valid, ...) at an update."""
        self._file.write(_as_line({"kind": kind, "update": update, **figures}))
        self._file.flush()
        if self._writer is not None:
            for name, value in scalars(figures, kind):
                self._writer.add_scalar(name, value, update)

    def close(self) -> None:
        """Flush and close all files."""
        self._file.close()
        if self._writer is not None:
            self._writer.close()


def _as_line(event: dict[str, Any]) -> str:
    """Return an event as a line of JSON, with null for NaN and infinity, which JSON lacks."""
    return json.dumps(_known(event)) + "\n"


def _known(value: Any) -> Any:
    """Return the value with None for NaN and infinity, in dictionaries inside it too."""
    if isinstance(value, dict):
        return {key: _known(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def scalars(figures: dict[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    """Yield the path (`valid/watch/NAME/bleu`) and the value of each number in nested figures."""
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from scalars(value, f"{prefix}/{name}")
        elif isinstance(value, int | float):
            yield f"{prefix}/{name}", value


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the events of a metrics.jsonl; skips a last line that a kill left incomplete."""
    if not path.is_file():
        return []
    events = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "update" in event:
            events.append(event)
    return events


@dataclass
class Meter:
    """Sums over the updates since the last log record, without validation."""

    tokens: int = 0
    seconds: float = 0.0
    seconds_waited: float = 0.0
    finite_tokens: int = 0
    loss_sum: float = 0.0
    gradient_norm: float = 0.0

    def note(self, result: UpdateResult, seconds: float, seconds_waited: float) -> None:
        """Add an update that took `seconds`, including `seconds_waited` for data."""
        self.tokens += result.num_tokens
        self.seconds += seconds
        self.seconds_waited += seconds_waited
        self.gradient_norm = result.gradient_norm
        if result.is_finite:
            self.loss_sum += result.loss * result.num_tokens
            self.finite_tokens += result.num_tokens

    @property
    def tokens_per_second(self) -> float:
        """Throughput in real target tokens per second."""
        return self.tokens / max(self.seconds, 1e-9)

    def figures(self) -> dict[str, float]:
        """Return the averages for the log."""
        return {
            "loss": self.loss_sum / self.finite_tokens if self.finite_tokens else math.nan,
            "gradient_norm": self.gradient_norm,
            "tokens_per_second": round(self.tokens_per_second, 1),
            "share_waiting_for_data": round(self.seconds_waited / max(self.seconds, 1e-9), 5),
        }


def learning_curve(events: list[dict[str, Any]]) -> str:
    """Return the validations among the events as a table, with columns for each watch set."""
    valid = [event for event in events if event["kind"] == "valid"]
    widths = {name: max(10, len(name) + 7) for event in valid for name in event.get("watch", {})}
    metrics = [name for name in METRICS if any(name in event for event in valid)]
    titles = "".join(f"{METRICS[name]:>{max(7, len(METRICS[name]) + 2)}}" for name in metrics)
    header = f"{'update':>8}{'minutes':>9}{'dev loss':>10}{titles}"
    for name, width in widths.items():
        header += f"{name + ' loss':>{width}}{titles}"
    rows = [header]
    for event in valid:
        watch = event.get("watch", {})
        rows.append(
            f"{event['update']:>8}{event['minutes']:>9.1f}{_columns(event, 10, metrics)}"
            + "".join(_columns(watch.get(name), width, metrics) for name, width in widths.items())
            + ("  average of checkpoints" if event.get("averaged") else "")
        )
    return "\n".join(rows)


def _columns(scores: Mapping[str, Any] | None, width: int, metrics: Sequence[str]) -> str:
    """Return loss and metrics as columns, the first `width` wide; dashes if there are none."""
    widths = [max(7, len(METRICS[name]) + 2) for name in metrics]
    if scores is None:  # this watch set came or went on a resume
        return f"{'-':>{width}}" + "".join(f"{'-':>{each}}" for each in widths)
    loss = math.nan if scores["loss"] is None else scores["loss"]
    values = zip(metrics, widths, strict=True)
    return f"{loss:>{width}.3f}" + "".join(f"{scores[name]:>{each}.2f}" for name, each in values)


def _tensorboard_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError:
        raise missing_extra("tensorboard", "tensorboard", "training.tensorboard") from None
    return SummaryWriter(str(folder))

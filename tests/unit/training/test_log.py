"""metrics.jsonl: what survives a kill, what a resumed run drops, and the curve made of it."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest

from mtrain.training.log import Meter, MetricsLog, learning_curve, read_metrics, scalars
from mtrain.training.updater import UpdateResult


def written(path: Path, updates: list[int], resume_update: int = 0) -> None:
    log = MetricsLog(path, resume_update, tensorboard=False)
    for update in updates:
        log.write("train", update, loss=float(update))
    log.close()


def test_each_event_is_a_line_on_disk_as_soon_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, 0, tensorboard=False)
    log.write("train", 5, loss=1.5)
    assert path.read_text() == '{"kind": "train", "update": 5, "loss": 1.5}\n'
    log.write("valid", 5, bleu=3.0)
    assert [event["kind"] for event in read_metrics(path)] == ["train", "valid"]
    log.close()


@pytest.mark.parametrize(
    "torn", ['{"kind": "tra', '{"kind": "train", "update": 9', '"', "\x00\x00"]
)
def test_a_torn_last_line_is_left_out_and_then_gone(torn: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, [1, 2])
    with path.open("a") as file:
        file.write(torn)
    assert [event["update"] for event in read_metrics(path)] == [1, 2]
    written(path, [3], resume_update=2)
    assert [json.loads(line)["update"] for line in path.read_text().splitlines()] == [1, 2, 3]


def test_going_on_drops_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, [10, 20, 30, 40])
    written(path, [25, 35], resume_update=20)
    assert [event["update"] for event in read_metrics(path)] == [10, 20, 25, 35]


def test_what_is_no_number_is_null_and_stays_it(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    meter = Meter()
    meter.note(UpdateResult(math.nan, gradient_norm=math.inf, num_tokens=200), 1.0, 0.0)
    path.write_text('{"kind": "train", "update": 1, "loss": NaN}\n')
    log = MetricsLog(path, 1, tensorboard=False)
    log.write("train", 2, **meter.figures())
    log.write("valid", 2, loss=math.nan, bleu=0.0, chrf=0.0, minutes=1.0)
    log.close()
    assert not re.search("nan|infinity", path.read_text(), re.IGNORECASE)
    events = read_metrics(path)
    assert [event["loss"] for event in events] == [None] * 3
    assert events[1]["gradient_norm"] is None
    assert learning_curve(events).split()[-3:] == ["nan", "0.00", "0.00"]


def test_figures_of_watch_sets_are_told_from_those_of_valid(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    watch = {"old-domain": {"loss": math.nan, "bleu": 3.0, "chrf": 4.0}}
    figures: dict[str, Any] = {"minutes": 1.2, "loss": 2.0, "bleu": 12.34, "chrf": 40.0}
    log = MetricsLog(path, 0, tensorboard=False)
    log.write("valid", 2, **figures)
    log.write("valid", 4, **figures, watch=watch)
    log.close()
    assert "NaN" not in path.read_text()
    header, before, after = learning_curve(read_metrics(path)).split("\n")
    assert header.split()[6:] == ["old-domain", "loss", "BLEU", "chrF"]
    assert before.split()[5:] == ["-"] * 3
    assert after.split()[5:] == ["nan", "3.00", "4.00"]
    assert len(header) == len(before) == len(after)
    assert dict(scalars({"bleu": 1.0, "watch": watch}, "valid")) == {
        "valid/bleu": 1.0,
        "valid/watch/old-domain/loss": pytest.approx(math.nan, nan_ok=True),
        "valid/watch/old-domain/bleu": 3.0,
        "valid/watch/old-domain/chrf": 4.0,
    }


def test_no_file_is_no_events(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_the_learning_curve_shows_validations_only() -> None:
    figures = {"minutes": 1.2, "loss": 2.0, "bleu": 12.34, "chrf": 40.0}
    events = [
        {"kind": "train", "update": 50, "loss": 3.0},
        {"kind": "valid", "update": 100, **figures},
        {"kind": "valid", "update": 100, **figures, "averaged": 3},
    ]
    header, row, average = learning_curve(events).split("\n")
    assert header.split() == ["update", "minutes", "dev", "loss", "BLEU", "chrF"]
    assert row.split() == ["100", "1.2", "2.000", "12.34", "40.00"]
    assert average.startswith(row)
    assert "average" in average


def test_the_meter_weighs_losses_by_tokens_and_leaves_skipped_ones_out() -> None:
    meter = Meter()
    meter.note(UpdateResult(loss=2.0, gradient_norm=1.0, num_tokens=100), 1.0, 0.5)
    meter.note(UpdateResult(loss=4.0, gradient_norm=3.0, num_tokens=300), 2.0, 0.0)
    meter.note(UpdateResult(float("nan"), gradient_norm=2.0, num_tokens=200), 1.0, 0.0)
    assert meter.figures() == {
        "loss": 3.5,
        "gradient_norm": 2.0,
        "tokens_per_second": 150.0,
        "share_waiting_for_data": 0.125,
    }

"""Checkpoints written while training continues: the right bits, no early name, no lost failure."""

import errno
import os
import signal
import threading
from pathlib import Path

import pytest
from torch import Tensor

from mtrain.checkpoints import format as checkpoint_format
from mtrain.checkpoints.collection import list_checkpoints
from mtrain.checkpoints.format import checkpoint_name, load_checkpoint
from mtrain.distributed.group import ProcessGroup
from mtrain.errors import UserError
from mtrain.text.lines import flush_to_disk
from mtrain.training.save_together import _digests_of_all
from tests.in_process import small_config
from tests.unit.training.test_trainer import (
    assert_same_tensors,
    at_every_batch,
    checkpoints,
    events,
    newest,
    train,
)

OFTEN = {"save_every": 2, "keep_last": 9, "valid_every": 100}


def test_training_continues_while_a_checkpoint_is_written(
    small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {**OFTEN, "max_updates": 8}
    whole = small_config(small_task, tmp_path / "whole", training)
    train(whole)
    config = small_config(small_task, tmp_path / "run", training)
    folder = config.run_dir / "checkpoints"
    has_trained, seen = threading.Event(), []

    def flush_late(path: Path) -> None:
        assert has_trained.wait(20), "training waits for the writer"
        flush_to_disk(path)

    def look(count: int, is_training: bool, features: Tensor) -> Tensor:
        if is_training and count == 4:  # the second update since the save
            seen.extend([*list_checkpoints(folder), *folder.glob(".*.writing")])
            has_trained.set()
        return features

    monkeypatch.setattr(checkpoint_format, "flush_to_disk", flush_late)
    train(config, at_every_batch(monkeypatch, look))
    assert [path.name for path in seen] == [f".{checkpoint_name(2)}.writing"]
    assert [path.name for path in checkpoints(config)] == [checkpoint_name(n) for n in (2, 4, 6, 8)]
    for one, other in zip(checkpoints(config), checkpoints(whole), strict=True):
        assert_same_tensors(load_checkpoint(one, True), load_checkpoint(other, True))


@pytest.mark.parametrize("end", ["soon", "last save", "signal"])
def test_a_checkpoint_that_cannot_be_written_ends_training(
    end: str, small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = 6 if end == "last save" else 1000
    training = {**OFTEN, "max_updates": last, "valid_every": 1000}
    config = small_config(small_task, tmp_path / "run", training)
    of_signal = 5 if end == "signal" else 0
    failing = checkpoint_name(of_signal or 6)

    def fail(path: Path) -> None:
        if failing in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush_to_disk(path)

    def stop(count: int, is_training: bool, features: Tensor) -> Tensor:
        if is_training and count == of_signal:
            os.kill(os.getpid(), signal.SIGTERM)
        return features

    monkeypatch.setattr(checkpoint_format, "flush_to_disk", fail)
    with pytest.raises(UserError, match=f"{failing}: the disk is full") as raised:
        train(config, at_every_batch(monkeypatch, stop))  # nor does it say that it has saved
    assert "make room" in raised.value.hint
    assert newest(config).state["position"]["update"] == 4
    assert not list((config.run_dir / "checkpoints").glob(".*"))
    assert events(config, "train")[-1]["update"] <= 8  # when the next one would have been saved


def test_a_piece_that_another_process_could_not_write_is_named(tmp_path: Path) -> None:
    group = ProcessGroup.alone()
    group.size = 3
    for rank, told in ((0, '{"a": "1"}'), (2, '{"c": "3"}')):
        (tmp_path / f"digest-{rank}").write_text(told)
    with pytest.raises(UserError, match="rank 1 could not write its part"):
        _digests_of_all(tmp_path, group)
    (tmp_path / "digest-1").touch()
    late = threading.Timer(0.1, lambda: (tmp_path / "digest-1").write_text('{"b": "2"}'))
    late.start()
    assert _digests_of_all(tmp_path, group) == {"a": "1", "b": "2", "c": "3"}
    assert not list(tmp_path.iterdir())

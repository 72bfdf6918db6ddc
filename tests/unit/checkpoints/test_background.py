"""What is written in the background is what was there, and no failure is lost."""

import threading

import pytest
import torch

from mtrain.checkpoints.background import BackgroundWriter, Snapshot
from mtrain.errors import UserError


def fail() -> None:
    raise UserError("the disk is full")


def raise_failure_of(writer: BackgroundWriter) -> None:
    """Look at a job again and again, as training does after each update."""
    while True:
        writer.raise_failure()


def fail_both(writer: BackgroundWriter) -> None:
    """Let a job fail, and the block that waits for it as well."""
    with writer:
        writer.start(fail)
        raise ValueError("of the block")


def test_a_snapshot_stays_as_it_is() -> None:
    weight = torch.nn.Parameter(torch.arange(6.0).view(2, 3).T)  # not contiguous, on a CPU
    step = torch.tensor(1.0)
    snapshot = Snapshot()
    taken = snapshot.take({"weight": weight, "step": step})
    with torch.no_grad():
        weight.zero_()
        step += 1
    assert torch.equal(taken["weight"], torch.arange(6.0).view(2, 3).T)
    assert taken["weight"].is_contiguous()
    assert float(taken["step"]) == 1.0
    assert not taken["weight"].requires_grad


def test_a_snapshot_follows_tensors_that_come_go_and_change_their_shape() -> None:
    snapshot = Snapshot()
    first = snapshot.take({"gone": torch.ones(2), "other": torch.ones(2), "same": torch.ones(3)})
    address = first["same"].data_ptr()
    others = {"other": torch.ones(4).bfloat16(), "same": torch.zeros(3), "new": torch.ones(1)}
    taken = snapshot.take(others)
    assert taken.keys() == others.keys()
    assert all(torch.equal(taken[name], tensor) for name, tensor in others.items())
    assert taken["other"].dtype == torch.bfloat16
    assert taken["same"].data_ptr() == address  # no new memory


def test_one_job_runs_at_a_time_beside_the_caller() -> None:
    order, may_end = [], threading.Event()

    def first() -> None:
        may_end.wait(10)
        order.append("first")

    with BackgroundWriter() as writer:
        writer.start(first)
        order.append("caller")
        threading.Timer(0.05, may_end.set).start()
        writer.start(lambda: order.append("second"))
        assert order[:2] == ["caller", "first"]
        writer.wait()
        writer.start(lambda: order.append("third"))
    assert order == ["caller", "first", "second", "third"]


def test_a_failure_is_raised_once_by_whatever_comes_next() -> None:
    writer = BackgroundWriter()
    for call in (writer.wait, lambda: writer.start(lambda: None)):
        writer.start(fail)
        with pytest.raises(UserError, match="disk is full"):
            call()
        writer.wait()
    writer.start(fail)
    with pytest.raises(UserError, match="disk is full"):
        raise_failure_of(writer)
    writer.raise_failure()
    with pytest.raises(UserError, match="disk is full"), writer:
        writer.start(fail)


def test_a_failure_in_a_block_that_fails_itself_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="of the block"):
        fail_both(BackgroundWriter())
    assert capsys.readouterr().err == "warning: the disk is full\n"

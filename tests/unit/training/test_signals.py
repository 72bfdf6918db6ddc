"""Real signals to a real process: the first is remembered, the second ends it at once."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mtrain.training.signals import StopSignal

# sleeps are short, since a signal just before one waits for its end
PROGRAM = """
import time
from mtrain.training.signals import StopSignal

def wait(is_over):
    for _ in range(6000):
        if is_over():
            return
        time.sleep(0.01)

with StopSignal() as stop:
    print("ready", flush=True)
    wait(lambda: stop.number)
    print(stop.number, flush=True)
    wait(lambda: not WAITS)
print("left", flush=True)
wait(lambda: False)
"""


@contextmanager
def program(
    waits: bool, preexec_fn: Callable[[], None] | None = None
) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", PROGRAM.replace("WAITS", str(waits))]
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen(command, **pipes, text=True, preexec_fn=preexec_fn)
    try:
        assert read_line(process) == "ready"
        yield process
    finally:
        process.kill()
        process.communicate()


def read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_exits_at_once(number: signal.Signals, second: signal.Signals) -> None:
    with program(waits=True) as process:
        process.send_signal(number)
        assert read_line(process) == str(int(number))
        assert process.poll() is None
        process.send_signal(second)
        assert process.wait(timeout=30) == 128 + second


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_second_hang_up_is_ignored(number: signal.Signals) -> None:
    with program(waits=True) as process:
        process.send_signal(number)
        assert read_line(process) == str(int(number))
        process.send_signal(signal.SIGHUP)
        time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM


def test_a_hang_up_that_is_ignored_stays_so() -> None:
    """As under nohup."""
    with program(waits=True, preexec_fn=ignore_hang_up) as process:
        process.send_signal(signal.SIGHUP)
        time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert read_line(process) == str(int(signal.SIGTERM))


def ignore_hang_up() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def test_outside_the_block_signals_do_what_they_did_before() -> None:
    with program(waits=False) as process:
        process.send_signal(signal.SIGINT)
        assert read_line(process) == str(int(signal.SIGINT))
        assert read_line(process) == "left"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == -signal.SIGTERM


def test_handlers_are_put_back_after_an_error() -> None:
    before = [signal.getsignal(number) for number in StopSignal.HANDLED]

    def fail() -> None:
        with StopSignal():
            assert [signal.getsignal(number) for number in StopSignal.HANDLED] != before
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [signal.getsignal(number) for number in StopSignal.HANDLED] == before

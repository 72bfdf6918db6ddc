"""Real signals to a real process: the first is remembered, the second ends it at once."""

import signal
import subprocess
import sys
from collections.abc import Iterator
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
def program(waits: bool) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", PROGRAM.replace("WAITS", str(waits))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert read_line(process) == "ready"
        yield process
    finally:
        process.kill()
        process.communicate()


def read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_exits_at_once(number: signal.Signals, second: signal.Signals) -> None:
    with program(waits=True) as process:
        process.send_signal(number)
        assert read_line(process) == str(int(number))
        assert process.poll() is None
        process.send_signal(second)
        assert process.wait(timeout=30) == 128 + second


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

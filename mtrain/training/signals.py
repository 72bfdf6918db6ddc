"""SIGTERM, SIGINT, SIGHUP: the first asks training to save and stop, the second exits at once.

A second SIGHUP is ignored: a closing terminal and its shell both send one.
"""

import os
import signal
from types import FrameType, TracebackType


class StopSignal:
    """A context that records the first signal; `number` is 0 until one arrives."""

    HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> "StopSignal":
        self._previous = {
            number: signal.signal(number, self._receive)
            for number in self.HANDLED
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN  # nohup
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        if self.number and number != signal.SIGHUP:
            os._exit(128 + number)
        self.number = self.number or number

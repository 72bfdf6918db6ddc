"""SIGTERM and SIGINT: the first asks training to save and stop, the second exits at once."""

import os
import signal
from types import FrameType, TracebackType


class StopSignal:
    """While entered, remembers the first signal; `number` is 0 until then."""

    HANDLED = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.number = 0

    def __enter__(self) -> "StopSignal":
        self._previous = [signal.signal(number, self._receive) for number in self.HANDLED]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for number, handler in zip(self.HANDLED, self._previous, strict=True):
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        if self.number:
            os._exit(128 + number)
        self.number = number

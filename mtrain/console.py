"""Messages and progress, always on stderr; stdout is for results.

A long job shows a progress bar on a terminal, and writes a plain line every ten seconds elsewhere.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

SECONDS_BETWEEN_LOG_LINES = 10.0


def say(message: str) -> None:
    """Write a line to stderr without breaking a progress bar."""
    from tqdm import tqdm

    with suppress(OSError):  # the reader of the log is gone; continue
        tqdm.write(message, file=sys.stderr)
        sys.stderr.flush()


def warn(message: str) -> None:
    """Write a warning line to stderr."""
    say(f"warning: {message}")


def format_seconds(seconds: float) -> str:
    """Format seconds: 75.2 as '1:15' and 4000 as '1:06:40'."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class Progress:
    """Shows progress: a bar on a terminal, else a line every ten seconds."""

    def __init__(self, name: str, total: int | None, unit: str, initial: int) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._count = self._initial = initial
        self._started = self._last_line = time.monotonic()
        self._note = ""
        from tqdm import tqdm  # imported late: help and completion do not need it

        self._bar = (
            tqdm(total=total, initial=initial, desc=name, unit=unit, unit_scale=True,
                 dynamic_ncols=True, file=sys.stderr, leave=False)
            if sys.stderr.isatty()
            else None
        )  # fmt: skip

    def advance(self, count: int, note: str = "", total: int | None = None) -> None:
        """Add `count` units of work; show `note`; replace the total by `total`, if given."""
        self._count += count
        self._note = note
        self._total = total or self._total
        if self._bar is not None:
            self._bar.total = self._total
            self._bar.set_postfix_str(note, refresh=False)
            with suppress(OSError):  # the terminal has closed; continue
                self._bar.update(count)
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LOG_LINES:
            self._write_line()

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            with suppress(OSError):
                self._bar.close()

    def _write_line(self) -> None:
        self._last_line = time.monotonic()
        seconds = self._last_line - self._started
        rate = (self._count - self._initial) / seconds
        done = f"{self._count}/{self._total}" if self._total else f"{self._count}"
        line = f"{self._name}: {done} {self._unit}, {rate:.1f}/s, {format_seconds(seconds)} so far"
        if self._total and rate > 0:
            line += f", {format_seconds((self._total - self._count) / rate)} to go"
        say(line + (f", {self._note}" if self._note else ""))


@contextmanager
def progress(
    name: str, total: int | None = None, unit: str = "lines", initial: int = 0
) -> Iterator[Progress]:
    """Show the progress of the work done inside the block."""
    shown = Progress(name, total, unit, initial)
    try:
        yield shown
    finally:
        shown.close()

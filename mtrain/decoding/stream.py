"""Input lines for a translator, in blocks as they arrive, and counts of their outcomes."""

import itertools
import queue
import threading
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import Any, BinaryIO

from mtrain.decoding.translator import Translation


@dataclass
class LineTally:
    """Counts of the lines of one file by outcome."""

    lines: int = 0
    ordinary: int = 0
    empty: int = 0
    split: int = 0
    cut_off: int = 0
    invalid: int = 0
    mismatched: int | None = None  # None where lines are translated one by one
    lost: int | None = None  # lines that lack a protected span; None where nothing is protected

    def note(self, translation: Translation) -> None:
        """Count one line; a line can be both split and cut off."""
        self.lines += 1
        self.empty += translation.is_empty
        self.split += translation.num_segments > 1
        self.cut_off += translation.is_cut_off
        self.invalid += not translation.is_valid_text
        if self.mismatched is not None:
            self.mismatched += translation.is_from_mismatch
        if self.lost is not None:
            self.lost += translation.num_lost > 0
        self.ordinary += (
            translation.num_segments == 1
            and not translation.is_cut_off
            and translation.is_valid_text
        )

    def __add__(self, other: "LineTally") -> "LineTally":
        """Return the counts of two parts of a text together."""
        pairs = zip(astuple(self), astuple(other), strict=True)
        counts: list[Any] = [None if one is None else one + more for one, more in pairs]
        return LineTally(*counts)

    def __str__(self) -> str:
        return (
            f"{self.lines} lines: {self.ordinary} ordinary, {self.empty} empty, "
            f"{self.split} split, {self.cut_off} cut off at the length limit, "
            f"{self.invalid} with invalid UTF-8 replaced{self._of_documents()}"
            f"{self._of_protected()}"
        )

    def _of_protected(self) -> str:
        if self.lost is None:
            return ""
        return f", {self.lost} that lack a span of data.protect"

    def _of_documents(self) -> str:
        if self.mismatched is None:
            return ""
        return f", {self.mismatched} alone because their chunk did not come back whole"


def full_blocks(file: BinaryIO, max_lines: int) -> Iterator[list[bytes]]:
    """Yield lists of `max_lines` lines without their \\n; the last list may be shorter."""
    lines = (line.removesuffix(b"\n") for line in file)
    while block := list(itertools.islice(lines, max_lines)):
        yield block


def arriving_blocks(file: BinaryIO, max_lines: int) -> Iterator[list[bytes]]:
    """Yield lists of all lines that have arrived, 1 to `max_lines`, without their \\n."""
    arrived: queue.Queue[bytes | BaseException | None] = queue.Queue(max_lines)

    def read() -> None:
        try:
            for line in file:
                arrived.put(line)
            arrived.put(None)
        except BaseException as error:  # raised again in the consumer
            arrived.put(error)

    threading.Thread(target=read, daemon=True).start()
    while True:
        block = []
        item = arrived.get()
        while isinstance(item, bytes):
            block.append(item.removesuffix(b"\n"))
            if len(block) == max_lines:
                break
            try:
                item = arrived.get_nowait()
            except queue.Empty:
                break
        if block:
            yield block
        if isinstance(item, BaseException):
            raise item
        if item is None:
            return

"""Output files of a translation that are appended to in step, block by block.

`Streams` are written as they come and cannot be resumed; a `Journal` (journal.py) can.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from mtrain.text.streams import open_output


class Outputs(ABC):
    """The contract of one or several output files."""

    num_lines = 0  # lines of the input whose output is written
    notes: Mapping[str, Any] = {}  # what the last block was written with

    @abstractmethod
    def append(self, contents: Sequence[bytes], num_lines: int, notes: Mapping[str, Any]) -> None:
        """Write a block to each output, in their order.

        `num_lines` are the lines of the input that it covers. `notes`, as JSON values, replace
        those of the block before, and are there again when the work is resumed.
        """

    @abstractmethod
    def finish(self) -> None:
        """Say that no block follows."""


class Streams(Outputs):
    """Outputs that are written as they come."""

    def __init__(self, sinks: Sequence[BinaryIO]) -> None:
        self._sinks = sinks

    def append(self, contents: Sequence[bytes], num_lines: int, notes: Mapping[str, Any]) -> None:
        for sink, content in zip(self._sinks, contents, strict=True):
            sink.write(content)
            sink.flush()
        self.num_lines += num_lines

    def finish(self) -> None:
        pass


@contextmanager
def open_streams(paths: Sequence[Path | None]) -> Iterator[Streams]:
    """Open stdout, pipes, devices, and files that get their names if the block ends well."""
    with ExitStack() as stack:
        yield Streams([stack.enter_context(open_output(path)) for path in paths])

"""The text that `mtrain translate` reads, cut into what is translated together.

A unit is a block of lines, or whole documents. It depends on the text alone, unless the lines of a
stream are answered as they arrive.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mtrain.config import Config
from mtrain.console import Progress
from mtrain.decoding.document_stream import (
    numbered_by_empty_lines,
    numbered_by_ids,
    whole_documents,
)
from mtrain.decoding.journal import Journal
from mtrain.decoding.lines_done import LinesDone, Unit
from mtrain.decoding.outputs import Outputs
from mtrain.decoding.stream import arriving_blocks, full_blocks
from mtrain.errors import UserError
from mtrain.inference.journalled import refusal
from mtrain.text.encoding import Text
from mtrain.text.lines import STREAM, open_bytes, refuse_early
from mtrain.text.streams import read_stdin_once


@dataclass(frozen=True)
class Documents:
    """The text consists of documents, which end at empty lines, or by the ids in a file."""

    ids_path: Path | None = None


@dataclass(frozen=True)
class UnitsOf:
    """A text and how it is cut; None is stdin. A unit has about `max_lines` lines."""

    path: Path | None
    documents: Documents | None
    max_lines: int

    def all(self, source: Text) -> Iterator[Unit]:
        """Yield all units of the text, which is open."""
        return self._units(full_blocks(source, self.max_lines))

    def not_done(
        self, source: Text, outputs: Outputs, done: LinesDone, shown: Progress
    ) -> Iterator[Unit]:
        """Yield the units that an earlier attempt has not translated; count the others as done.

        Tells how many lines the text may have. Raises UserError for another text.
        """
        is_journal = isinstance(outputs, Journal)
        is_stream = self.path in (None, STREAM) or not self.path.is_file()
        cut = arriving_blocks if is_stream and not is_journal else full_blocks
        units = self._units(_told(cut(source, self.max_lines), source, shown))
        if not isinstance(outputs, Journal):
            return units
        return done.pass_over(
            units,
            outputs.num_lines,
            outputs.notes.get("input", ""),
            lambda told: refusal(outputs, f"{self.path or 'stdin'} is another text: {told}"),
        )

    def _units(self, blocks: Iterator[list[bytes]]) -> Iterator[Unit]:
        if self.documents is None:
            return ((block, None) for block in blocks)
        if self.documents.ids_path is None:
            return whole_documents(numbered_by_empty_lines(blocks), self.max_lines)
        numbered = numbered_by_ids(blocks, self.documents.ids_path, self.path or "stdin")
        return whole_documents(numbered, self.max_lines)


def check_documents(
    config: Config, input_path: Path | None, alignments_path: Path | None, documents: Documents
) -> None:
    """Raise UserError for what documents cannot be combined with."""
    if alignments_path:
        raise UserError(
            "--alignments are of lines that are translated alone",
            "leave out --documents, or link the lines afterwards: mtrain align",
        )
    if config.decoding.n_best > 1:
        raise UserError(
            "--n-best: of a document there is one translation a line",
            "leave out --documents or --n-best",
        )
    if documents.ids_path is not None:
        read_stdin_once(input_path or STREAM, documents.ids_path)
        refuse_early(input_path, documents.ids_path)
        if input_path is not None and input_path.is_file() and documents.ids_path.is_file():
            with open_bytes(input_path) as text:
                blocks = full_blocks(text, config.decoding.buffer_lines)
                for _ in numbered_by_ids(blocks, documents.ids_path, input_path):
                    pass  # say now what does not fit


def _told(blocks: Iterator[list[bytes]], source: Text, shown: Progress) -> Iterator[list[bytes]]:
    """Yield the blocks of a text, and tell how many lines it may have."""
    num_read = 0
    for block in blocks:
        num_read += len(block)
        if share := source.share_read():
            shown.advance(0, total=round(num_read / share))
        yield block

"""Documents in a text: where one ends, by empty lines or by the id of each line's document."""

from pathlib import Path

from mtrain.errors import UserError
from mtrain.text.lines import clean_bytes

LONGEST_ID = 80  # characters of an id in a message


def is_boundary(line: bytes) -> bool:
    """Return whether a line ends a document where empty lines do."""
    return not clean_bytes(line)


class DocumentIds:
    """Numbers documents by their ids, one a line, from 0."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first_lines: dict[bytes, int] = {}  # by id
        self._last: bytes | None = None

    def number_of(self, name: bytes, line: int) -> int:
        """Return the number of the document `name`, an id without spaces around it, on a line.

        Raises UserError for an id that comes back after another document, for an empty one, and for
        one with a tab, after which files of WMT have a paragraph's number.
        """
        name = name.strip()
        if name != self._last:
            where = f"{self._path}:{line}"
            own, tab, _ = name.partition(b"\t")
            if tab:
                raise UserError(
                    f"{where}: a tab after document {_tell(own)}",
                    "each line needs the id of its document alone: cut -f 1",
                )
            if not name:
                raise UserError(f"{where}: no document id", "each line needs that of its document")
            if name in self._first_lines:
                raise UserError(
                    f"{where}: document {_tell(name)} comes back after another one; it began in "
                    f"line {self._first_lines[name]}",
                    "the lines of a document must follow each other: sort the text by document",
                )
            self._first_lines[name] = line
            self._last = name
        return len(self._first_lines) - 1


def _tell(name: bytes) -> str:
    return name.decode("utf-8", "replace")[:LONGEST_ID]

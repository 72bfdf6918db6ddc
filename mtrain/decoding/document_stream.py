"""Lines of documents for a translator, as they arrive: numbered by document, and in whole ones.

Memory holds a few blocks of lines, however long the text is.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from mtrain.errors import UserError
from mtrain.text.documents import DocumentIds, is_boundary
from mtrain.text.lines import read_lines

NumberedLines = tuple[list[bytes], list[int]]  # and the number of each line's document, ascending


def numbered_by_empty_lines(blocks: Iterable[list[bytes]]) -> Iterator[NumberedLines]:
    """Yield the blocks with the number of each line's document; an empty line begins a new one."""
    document = 0
    for lines in blocks:
        documents = []
        for line in lines:
            document += is_boundary(line)
            documents.append(document)
        yield lines, documents


def numbered_by_ids(
    blocks: Iterable[list[bytes]], path: Path, text: object
) -> Iterator[NumberedLines]:
    """Yield the blocks with the number of each line's document, whose ids are the lines of `path`.

    Raises UserError, naming `text` too, if it does not have as many lines, and for an id that comes
    back after another document.
    """
    ids, names, count = DocumentIds(path), read_lines(path), 0
    for lines in blocks:
        documents = []
        for number, name in enumerate(islice(names, len(lines)), start=count + 1):
            documents.append(ids.number_of(name, number))
        if len(documents) < len(lines):
            raise _of_other_length(path, count + len(documents), text, "more")
        count += len(lines)
        yield lines, documents
    if rest := sum(1 for _ in names):
        raise _of_other_length(path, count + rest, text, f"{count}")


def whole_documents(blocks: Iterable[NumberedLines], max_lines: int) -> Iterator[NumberedLines]:
    """Yield the lines of whole documents as soon as their last line is known to have arrived.

    A document is cut after each `max_lines` lines, and its parts have numbers of their own: how it
    is translated does not depend on how its lines arrive.
    """
    lines: list[bytes] = []
    documents: list[int] = []
    for more_lines, more_documents in _cut(blocks, max_lines):
        lines, documents = lines + more_lines, documents + more_documents
        start = bisect_left(documents, documents[-1])
        if start:
            yield lines[:start], documents[:start]
            lines, documents = lines[start:], documents[start:]
    if lines:
        yield lines, documents


def _cut(blocks: Iterable[NumberedLines], max_lines: int) -> Iterator[NumberedLines]:
    """Yield the same lines with documents of at most `max_lines` lines."""
    last, number, size = -1, -1, 0
    for lines, documents in blocks:
        numbers = []
        for document in documents:
            if document != last or size == max_lines:
                last, number, size = document, number + 1, 0
            size += 1
            numbers.append(number)
        yield lines, numbers


def _of_other_length(path: Path, num_ids: int, text: object, num_lines: str) -> UserError:
    return UserError(
        f"{path} has {num_ids} lines but {text} has {num_lines}",
        "line n of one must be the document id of line n of the other",
    )

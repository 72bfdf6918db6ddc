"""The lines of an input that are translated: counted, digested, and passed over on a resume.

A resumed translation reads its input from the beginning, and must skip what is done: it compares
these lines as they pass. So an input is read once, and may be a pipe or a compressed file.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from mtrain.errors import UserError

Unit = tuple[list[bytes], list[int] | None]  # lines, and the number of each one's document


class LinesDone:
    """The first lines of a text, with their documents if it has some."""

    def __init__(self) -> None:
        self.num_lines = self.num_units = 0
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> str:
        """The SHA-256 of the lines, and of the numbers of their documents."""
        return self._digest.hexdigest()

    def add(self, lines: Sequence[bytes], documents: Sequence[int] | None) -> None:
        """Count further lines, a unit, as done."""
        self.num_units += 1
        self.num_lines += len(lines)
        for line, document in zip(lines, documents or [-1] * len(lines), strict=True):
            self._digest.update(b"%d %s\n" % (document, line))

    def pass_over(
        self,
        units: Iterable[Unit],
        num_lines: int,
        digest: str,
        refusal: Callable[[str], UserError],
    ) -> Iterator[Unit]:
        """Count the first lines as done, and yield what follows them.

        Raises `refusal`, with what is wrong, if there are fewer lines, if they have another digest,
        or if the last one's document continues.
        """
        units = iter(units)
        rest: Unit = [], None
        while self.num_lines < num_lines:
            lines, documents = next(units, ([], None))
            if not lines:
                raise refusal(f"it has {self.num_lines:,} lines")
            size = num_lines - self.num_lines
            self.add(lines[:size], documents and documents[:size])
            rest = lines[size:], documents and documents[size:]
            if self.num_lines == num_lines and self.digest != digest:
                raise refusal(f"its first {num_lines:,} lines are others")
            if rest[1] and documents and documents[size - 1] == rest[1][0]:
                raise refusal(f"line {num_lines + 1:,} continues a document that was complete")
        if rest[0]:
            yield rest
        yield from units

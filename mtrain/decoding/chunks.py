"""Chunks of a document to translate at once: consecutive lines, up to a budget of source tokens.

Works on the number of tokens of each line; knows neither text nor model.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Chunk:
    """Lines by number: `lines` to translate, after `context` that was translated before."""

    context: list[int]
    lines: list[int]

    @property
    def all_lines(self) -> list[int]:
        """What the model reads, in order."""
        return [*self.context, *self.lines]


def plan_chunks(
    lengths: Sequence[int], documents: Sequence[int], budget: int, overlap: int
) -> list[Chunk]:
    """Return chunks that have each line once, but for those of length 0, which need none.

    `lengths` count the tokens of each line and one mark after it, and `documents` numbers the
    document of each. The lines of a chunk are of one document. A line over the budget is alone.
    Up to `overlap` lines before a chunk are its context, fewer where they do not fit.
    """
    chunks: list[Chunk] = []
    earlier: list[int] = []  # lines of the document in the chunks so far
    total = 0
    for line, length in enumerate(lengths):
        if not length:
            continue
        is_same = bool(chunks) and documents[chunks[-1].lines[0]] == documents[line]
        if is_same and total + length <= budget:
            chunks[-1].lines.append(line)
            total += length
            continue
        earlier = [*earlier, *chunks[-1].lines] if is_same else []
        earlier = earlier[len(earlier) - overlap :] if overlap < len(earlier) else earlier
        context = list(earlier)
        while context and sum(lengths[row] for row in context) + length > budget:
            del context[0]
        total = sum(lengths[row] for row in context) + length
        chunks.append(Chunk(context, [line]))
    return chunks

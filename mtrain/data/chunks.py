"""Chunks: consecutive sentences of a document as one pair, for the model to learn from.

Each sentence is in one chunk. How far a chunk is filled is drawn from a mixture of lengths, one
sentence included, and depends on its corpus, document and number alone. A dropped sentence ends
the chunk, so that all text of a chunk is consecutive. Works on token ids.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from mtrain.data.plan import derive_seed
from mtrain.text.tokenizer import TokenizerPair

PARTS = (1, 2, 4, 8)  # a chunk may have so much of the budget; or one sentence

Pair = tuple[Sequence[int], Sequence[int]]  # ids of source and target, prefixes included


class Joiner:
    """Joins the sentences of one corpus, which come in order."""

    def __init__(self, budget: int, tokenizers: TokenizerPair, corpus: int) -> None:
        """Join up to `budget` tokens on a side, end mark included.

        `tokenizers` have the prefixes of the corpus, and `corpus` is its number. Raises UserError
        if a vocabulary lacks the separator.
        """
        sides = tokenizers.source, tokenizers.target
        self._separators = [side.separator_id for side in sides]
        self._prefix_lengths = [len(side.prefix) for side in sides]
        self._budget = budget
        self._corpus = corpus
        self._document: int | None = None
        self._num_begun = 0  # chunks of the document
        self._open: list[Pair] = []
        self._limit = 0
        self._lengths = [0, 0]
        self._num_documents = 0
        self._sizes: Counter[int] = Counter()  # chunks by their number of sentences

    def join(self, documents: Sequence[int], pairs: Sequence[Pair | None]) -> Iterator[Pair]:
        """Yield the chunks that these sentences complete; None is a dropped sentence."""
        for document, pair in zip(documents, pairs, strict=True):
            if document != self._document or pair is None:
                yield from self.finish()
            if document != self._document:
                self._document, self._num_begun = document, 0
                self._num_documents += 1
            if pair is not None:
                yield from self._add(pair)

    def finish(self) -> Iterator[Pair]:
        """Yield the chunk under way, if there is one."""
        if self._open:
            self._sizes[len(self._open)] += 1
            source, target = (self._joined(side) for side in (0, 1))
            yield source, target
            self._open = []

    def describe(self) -> dict[str, Any]:
        """Return the number of documents, and that of chunks by their number of sentences."""
        chunks = {str(size): self._sizes[size] for size in sorted(self._sizes)}
        return {"documents": self._num_documents, "chunks": chunks}

    def _add(self, pair: Pair) -> Iterator[Pair]:
        has_separator = any(separator in ids for separator, ids
                            in zip(self._separators, pair, strict=True))  # fmt: skip
        longer = [
            length + 1 + len(ids) - prefix
            for length, ids, prefix in zip(self._lengths, pair, self._prefix_lengths, strict=True)
        ]
        if has_separator or max(longer) + 1 > self._limit:
            yield from self.finish()
        if self._open:
            self._lengths = longer
        else:
            self._lengths = [len(ids) for ids in pair]
            self._limit = 0 if has_separator else self._draw()  # such a text stays alone
        self._open.append(pair)

    def _draw(self) -> int:
        """Return the most tokens of the next chunk; 0 lets it have one sentence."""
        number = derive_seed("context", self._corpus, self._document or 0, self._num_begun)
        self._num_begun += 1
        choice = number % (len(PARTS) + 1)
        return self._budget // PARTS[choice] if choice < len(PARTS) else 0

    def _joined(self, side: int) -> list[int]:
        """Return the ids of a side: one prefix, and a separator before each further sentence."""
        first, *others = (pair[side] for pair in self._open)
        start = self._prefix_lengths[side]
        return [*first, *chain.from_iterable(
                    (self._separators[side], *ids[start:]) for ids in others)]  # fmt: skip

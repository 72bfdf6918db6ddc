"""The training split: joins the tokens of all blocks, in order, in a token store.

Does not import torch.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mtrain.config.run import Config
from mtrain.data.chunks import Joiner, Pair
from mtrain.data.protected import ProtectionTally
from mtrain.data.splits import describe_split
from mtrain.data.store import LINKS, StoreWriter
from mtrain.data.token_blocks import DOCUMENTS, TokenBlock, joins_documents, store_columns
from mtrain.errors import UserError
from mtrain.text.filters import Ledger, nothing_left
from mtrain.text.links import SIDES
from mtrain.text.tokenizer import TokenizerPair

Rows = dict[str, Sequence[Sequence[int]]]  # column: the integers of each pair


class TrainSplit:
    """Writes the kept pairs of all corpora into the store in `folder`."""

    def __init__(
        self, config: Config, folder: Path, tokenizers: TokenizerPair, ledgers: Sequence[Ledger]
    ) -> None:
        """Count in the `ledgers` which pairs of each corpus were kept, and which are too long.

        Raises UserError if a vocabulary lacks the separator that documents need.
        """
        self._config = config
        self._folder = folder
        self._tokenizers = tokenizers
        self._ledgers = ledgers
        self._joiners = [self._joiner(number) for number in range(len(config.data.train))]
        self._has_links = config.data.has_alignments
        self._tally = ProtectionTally(config.data.protect)
        self._linked = {"pairs": 0, "lost": 0}
        self._has_words = False

    def write(self, blocks: Iterable[TokenBlock], num_pairs: int) -> dict[str, Any]:
        """Write all blocks, of so many pairs in all; return the manifest entry."""
        columns = store_columns(self._config, self._tokenizers)
        columns.pop(DOCUMENTS, None)
        position, corpus = 0, 0
        with StoreWriter(self._folder, columns) as writer:
            for block in blocks:
                position += block.place.num_pairs
                if block.place.corpus != corpus:
                    self._finish(corpus, writer)
                    corpus = block.place.corpus
                self._add(block, writer)
            self._finish(corpus, writer)
        if position < num_pairs:
            raise UserError("data.train: a file shrank while it was read; run it again")
        if not writer.num_pairs:
            raise nothing_left(self._ledgers)
        if self._config.learns_from_text and not self._has_words:
            raise UserError(
                "data.train: no text has a letter in it, so there are no words to learn",
                "look at the files: they may hold numbers, symbols or another column",
            )
        figures = describe_split(self._folder, writer, self._tokenizers)
        if self._has_links:
            figures[LINKS] = {"count": writer.counts()[LINKS] // 2, **self._linked}
        return figures

    def describe_protected(self) -> dict[str, Any]:
        """Return what the manifest says of the protected spans; nothing without any protection."""
        return {"protected": self._tally.describe()} if self._config.data.protect else {}

    def describe_chunks(self) -> dict[str, Any]:
        """Return what the manifest says of the chunks of each corpus; nothing without any."""
        if self._config.data.context is None:
            return {}
        return {"chunks": [joiner and joiner.describe() for joiner in self._joiners]}

    def _joiner(self, number: int) -> Joiner | None:
        context = self._config.data.context
        if context is None or not joins_documents(self._config, number):
            return None
        prefixes = self._config.prefixes_of(self._config.data.train[number])
        return Joiner(context.tokens, self._tokenizers.with_prefixes(prefixes), number)

    def _add(self, block: TokenBlock, writer: StoreWriter) -> None:
        """Append a block to the store, and count its pairs."""
        self._ledgers[block.place.corpus].add(block.ledger)
        self._has_words = self._has_words or block.has_words
        self._tally.add(block.spans)
        for name, count in block.links.items():
            self._linked[name] += count
        joiner = self._joiners[block.place.corpus]
        if joiner is None:
            writer.append_columns(block.columns)
            return
        sides = (block.columns[side].rows() for side in SIDES)
        pairs = [pair if pair[0] else None for pair in zip(*sides, strict=True)]
        writer.append(_columns(joiner.join(block.columns[DOCUMENTS].tokens.tolist(), pairs)))

    def _finish(self, corpus: int, writer: StoreWriter) -> None:
        """Write the chunk that is under way when all blocks of a corpus have been read."""
        joiner = self._joiners[corpus]
        if joiner is not None:
            writer.append(_columns(joiner.finish()))


def _columns(pairs: Iterable[Pair]) -> Rows:
    chunks = list(pairs)
    return {side: [pair[place] for pair in chunks] for place, side in enumerate(SIDES)}

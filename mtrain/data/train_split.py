"""The training split: tokenises the pairs that the filters kept, and writes their token store.

Does not import torch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mtrain.config.run import Config
from mtrain.data.chunks import Joiner, Pair
from mtrain.data.protected import ProtectionTally
from mtrain.data.splits import describe_split, encode, one_sided, text_of
from mtrain.data.store import LINKS, StoreWriter, translation_columns
from mtrain.errors import UserError
from mtrain.text.filters import CODES, KEPT, Codes, Ledger, judge_lengths, nothing_left
from mtrain.text.lines import clean_pairs
from mtrain.text.links import SIDES, Link, LinkMapper
from mtrain.text.tokenizer import TokenizerPair

DUPLICATES = [CODES["duplicate"], CODES["near_duplicates"]]  # found after all pairs were read

Rows = dict[str, Sequence[Sequence[int]]]  # column: the integers of each pair


@dataclass(frozen=True)
class Block:
    """Raw pairs of one corpus."""

    corpus: int  # its index in data.train
    sources: Sequence[bytes]
    targets: Sequence[bytes]
    links: Sequence[list[Link] | None]  # word links of each pair
    documents: Sequence[int | None]  # number of each pair's document

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, rows: npt.NDArray[np.int64]) -> tuple[list[str], list[str]]:
        """Return the sources and the targets of the pairs `rows`, cleaned."""
        sides = ([side[row] for row in rows.tolist()] for side in (self.sources, self.targets))
        return clean_pairs(*sides)


class TrainSplit:
    """Tokenises the kept pairs of all corpora into the store in `folder`."""

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
        self._of_corpus = [tokenizers.with_prefixes(config.prefixes_of(corpus))
                           for corpus in config.data.train]  # fmt: skip
        self._joiners = [self._joiner(number) for number in range(len(config.data.train))]
        self._has_links = config.data.has_alignments
        self._has_text = config.features is not None
        self._mapper = LinkMapper(tokenizers)
        self._tally = ProtectionTally(config.data.protect)
        self._has_words = False

    def write(self, blocks: Iterable[Block], verdicts: Codes) -> dict[str, Any]:
        """Write the pairs that `verdicts` keep; return the manifest entry."""
        columns = translation_columns(self._tokenizers.vocab_size, self._has_links, self._has_text)
        position, corpus = 0, 0
        with StoreWriter(self._folder, columns) as writer:
            for block in blocks:
                codes = verdicts[position : position + len(block)]
                if len(codes) < len(block):
                    raise UserError("data.train: a file grew while it was read; run it again")
                position += len(block)
                if block.corpus != corpus:
                    self._finish(corpus, writer)
                    corpus = block.corpus
                writer.append(self._rows(block, codes))
            self._finish(corpus, writer)
        if position < len(verdicts):
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
            count = writer.counts()[LINKS] // 2
            figures[LINKS] = {"count": count, **self._mapper.counts()}
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
        context, corpus = self._config.data.context, self._config.data.train[number]
        if context is None or getattr(corpus, "documents", None) is None:
            return None
        return Joiner(context.tokens, self._of_corpus[number], number)

    def _rows(self, block: Block, codes: Codes) -> Rows:
        """Return what a block adds to the store, and count its pairs."""
        ledger = self._ledgers[block.corpus]
        is_duplicate = np.isin(codes, DUPLICATES)
        ledger.note(codes[is_duplicate], *block.take(np.flatnonzero(is_duplicate)))
        kept = np.flatnonzero(codes == KEPT)
        sources, targets = block.take(kept)
        self._has_words = self._has_words or any(map(str.isalpha, chain(*sources, *targets)))
        is_text = self._config.is_text(self._config.data.train[block.corpus])
        masked = self._tokenizers.protection.protect_pairs(sources, targets)
        source_ids, target_ids = encode(masked.sides, self._of_corpus[block.corpus], is_text)
        codes = judge_lengths(_lengths(source_ids), _lengths(target_ids), self._config.data.filters)
        ledger.note(codes, sources, targets)
        chosen = np.flatnonzero(codes == KEPT).tolist()
        self._tally.note([masked.pairs[row] for row in chosen])
        joiner = self._joiners[block.corpus]
        if joiner is not None:
            pairs = {int(kept[row]): (source_ids[row], target_ids[row]) for row in chosen}
            documents = [number or 0 for number in block.documents]
            return _columns(joiner.join(documents, list(map(pairs.get, range(len(block))))))
        links = [
            list(chain.from_iterable(
                self._mapper.map(block.links[kept[row]], (sources[row], targets[row]),
                                 (source_ids[row], target_ids[row]), masked.pairs[row].contents)))
            for row in chosen
        ] if self._has_links else []  # fmt: skip
        ids = {"source": source_ids, "target": target_ids}
        rows = {side: [theirs[row] for row in chosen] for side, theirs in ids.items()}
        rows = one_sided(rows) if is_text else rows
        rows |= {LINKS: links} if self._has_links else {}
        texts = text_of([sources[row] for row in chosen]) if self._has_text else {}
        return {**rows, **texts}

    def _finish(self, corpus: int, writer: StoreWriter) -> None:
        """Write the chunk that is under way when all blocks of a corpus have been read."""
        joiner = self._joiners[corpus]
        if joiner is not None:
            writer.append(_columns(joiner.finish()))


def _columns(pairs: Iterable[Pair]) -> Rows:
    chunks = list(pairs)
    return {side: [pair[place] for pair in chunks] for place, side in enumerate(SIDES)}


def _lengths(ids: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    return np.fromiter(map(len, ids), np.int64, len(ids))

"""The last pass over the training pairs: tokenises the kept ones, each block by itself.

Does not import torch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from mtrain.config.run import Config
from mtrain.console import progress
from mtrain.data.blocks import Block, Owns, Place, own_all, read_blocks
from mtrain.data.protected import ProtectionTally
from mtrain.data.splits import encode, one_sided, text_of
from mtrain.data.store import LINKS, TEXT, Column, Columns, translation_columns
from mtrain.errors import UserError
from mtrain.text.filters import CODES, KEPT, Codes, Ledger, judge_lengths
from mtrain.text.links import LinkMapper
from mtrain.text.tokenizer import TokenizerPair

DUPLICATES = [CODES["duplicate"], CODES["near_duplicates"]]  # found after all pairs were read
DOCUMENTS = "documents"  # a column until the sentences of documents are joined


@dataclass(frozen=True)
class TokenBlock:
    """The tokens of a block's kept pairs, and counts.

    Of a corpus whose documents are to be joined, every pair has a row, with its document's number;
    the sides of dropped pairs are empty.
    """

    place: Place
    columns: dict[str, Column]
    ledger: Ledger  # of duplicates, of kept pairs and of pairs dropped for their lengths
    has_words: bool  # whether a text has a letter
    links: dict[str, int]  # see `LinkMapper.counts`
    spans: dict[str, dict[str, int]]  # see `ProtectionTally.counts`


class BlockTokenizer:
    """Tokenises the pairs that the scan keeps; each block depends on nothing but its text."""

    def __init__(self, config: Config, tokenizers: TokenizerPair) -> None:
        self._config = config
        self._of_corpus = [tokenizers.with_prefixes(config.prefixes_of(corpus))
                           for corpus in config.data.train]  # fmt: skip
        self._protection = tokenizers.protection
        self._mapper = LinkMapper(tokenizers)
        self._columns = store_columns(config, tokenizers)

    def tokenise(self, block: Block, verdicts: Codes) -> TokenBlock:
        """Tokenise a block; `verdicts` are those on all pairs. Raises UserError if too few."""
        place, config = block.place, self._config
        codes = verdicts[place.start : place.start + place.num_pairs]
        if len(codes) < place.num_pairs:
            raise UserError("data.train: a file grew while it was read; run it again")
        ledger, tally = Ledger(""), ProtectionTally(config.data.protect)
        is_duplicate = np.isin(codes, DUPLICATES)
        ledger.note(codes[is_duplicate], *block.take(np.flatnonzero(is_duplicate)))
        kept = np.flatnonzero(codes == KEPT)
        sources, targets = block.take(kept)
        has_words = any(map(str.isalpha, chain(*sources, *targets)))
        is_text = config.is_text(config.data.train[place.corpus])
        masked = self._protection.protect_pairs(sources, targets)
        source_ids, target_ids = encode(masked.sides, self._of_corpus[place.corpus], is_text)
        codes = judge_lengths(_lengths(source_ids), _lengths(target_ids), config.data.filters)
        ledger.note(codes, sources, targets)
        chosen = np.flatnonzero(codes == KEPT).tolist()
        tally.note([masked.pairs[row] for row in chosen])
        mapper = self._mapper.fresh()
        rows: dict[str, Sequence[Sequence[int]]] = {name: [] for name in self._columns}
        ids = {"source": source_ids, "target": target_ids}
        if joins_documents(config, place.corpus):
            row_of = {int(kept[row]): row for row in chosen}
            for side, theirs in ids.items():
                rows[side] = [theirs[row_of[pair]] if pair in row_of else []
                              for pair in range(len(block))]  # fmt: skip
            rows[DOCUMENTS] = [[number or 0] for number in block.documents]
        else:
            sides = {side: [theirs[row] for row in chosen] for side, theirs in ids.items()}
            rows |= one_sided(sides) if is_text else sides
        if LINKS in rows:
            rows[LINKS] = [
                list(chain.from_iterable(
                    mapper.map(block.links[kept[row]], (sources[row], targets[row]),
                               (source_ids[row], target_ids[row]), masked.pairs[row].contents)))
                for row in chosen
            ]  # fmt: skip
        if TEXT in rows:
            rows |= text_of([sources[row] for row in chosen])
        columns = {name: Column.of(rows[name], kind) for name, kind in self._columns.items()}
        return TokenBlock(place, columns, ledger, has_words, mapper.counts(), tally.counts())


def token_blocks(
    config: Config, tokenizers: TokenizerPair, verdicts: Codes, owns: Owns = own_all
) -> Iterator[TokenBlock]:
    """Read the training pairs and yield the tokens of each block that is owned."""
    tokenizer = BlockTokenizer(config, tokenizers)
    with progress("tokenising", len(verdicts), "pairs") as shown:
        for block in read_blocks(config, shown, owns):
            yield tokenizer.tokenise(block, verdicts)


def store_columns(config: Config, tokenizers: TokenizerPair) -> Columns:
    """Return the columns of a block; `DOCUMENTS` is none of the store's."""
    columns = translation_columns(
        tokenizers.vocab_size, config.data.has_alignments, config.features is not None
    )
    return columns | ({DOCUMENTS: "uint32"} if config.data.context is not None else {})


def joins_documents(config: Config, corpus: int) -> bool:
    """Return whether the sentences of a corpus's documents are joined."""
    documents: Any = getattr(config.data.train[corpus], "documents", None)
    return config.data.context is not None and documents is not None


def _lengths(ids: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
    return np.fromiter(map(len, ids), np.int64, len(ids))

"""The training pairs in blocks, each of one corpus. Does not import torch.

Each pass over the corpora reads the same blocks, so blocks can be shared out: who owns some reads
past the others.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from mtrain.config.run import Config
from mtrain.console import Progress
from mtrain.text.corpora import read_training_pairs
from mtrain.text.lines import clean_pairs
from mtrain.text.links import Link

BLOCK_PAIRS = 10_000

Owns = Callable[[int], bool]  # whether a block, given by its number, is to be worked on


@dataclass(frozen=True)
class Place:
    """Where a block is in the training corpora."""

    block: int  # its number over all corpora, from 0
    corpus: int  # the index of its corpus in data.train
    is_first: bool  # whether it is the first of its corpus
    start: int  # the number of its first pair over all corpora, from 0
    num_pairs: int


@dataclass(frozen=True)
class Block:
    """Raw pairs of one corpus."""

    place: Place
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


def own_all(_: int) -> bool:
    """Own every block."""
    return True


def read_blocks(config: Config, shown: Progress, owns: Owns = own_all) -> Iterator[Block]:
    """Read all training pairs, and yield the blocks that are owned."""
    number = start = 0
    for corpus, about in enumerate(config.data.train):
        languages = config.data.languages_of(about)
        pairs = read_training_pairs(config.pairs_of(about), languages)
        is_first = True
        while block := list(islice(pairs, BLOCK_PAIRS)):
            if owns(number):
                yield Block(
                    Place(number, corpus, is_first, start, len(block)),
                    [source for (source, _), _, _ in block],
                    [target for (_, target), _, _ in block],
                    [links for _, links, _ in block],
                    [document for _, _, document in block],
                )
            number, start, is_first = number + 1, start + len(block), False
            shown.advance(len(block))

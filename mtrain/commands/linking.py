"""From a model's attention to links between words: what `align` and `translate` share."""

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np

from mtrain.commands.loading import LoadedRun
from mtrain.console import warn
from mtrain.decoding.forced import FloatArray, IdPair
from mtrain.evaluation.alignment import word_links
from mtrain.text.links import Link
from mtrain.text.tokenizer import Tokenizer, word_numbers

NO_WORD = -1  # what end marks are of


class Linker:
    """Links the words of lines and their translations; counts the lines that it cannot link."""

    def __init__(self, loaded: LoadedRun) -> None:
        self._tokenizers = loaded.tokenizers
        self._decoder = loaded.forced_decoder()
        self._num_unclear = self._num_too_long = 0

    @property
    def max_ids(self) -> int:
        """The longest side that can be linked in one piece, in ids."""
        return self._decoder.max_ids

    def link(
        self,
        lines: Sequence[Sequence[IdPair]],
        texts: Sequence[tuple[str, str]],
        on_progress: Callable[[int], None] = lambda pairs: None,
    ) -> list[set[Link]]:
        """Return the links between the words of each pair of `texts`, counted from 0.

        `lines` holds the ids of each pair, in one segment or several. A pair whose words are not
        those of its pieces, or with a segment over the model's limit, gets no links.
        """
        segments = [pair for line in lines for pair in line if self._fits(pair)]
        weights = iter(self._decoder.alignments(segments, on_progress))
        linked = []
        for line, (source, target) in zip(lines, texts, strict=True):
            own = [next(weights) for pair in line if self._fits(pair)]
            source_words, target_words = (
                _numbers([pair[side] for pair in line], tokenizer)
                for side, tokenizer in enumerate((self._tokenizers.source, self._tokenizers.target))
            )
            links: set[Link] = set()
            if len(own) < len(line):
                self._num_too_long += 1
            elif _count(source_words) != len(source.split()) or _count(target_words) != len(
                target.split()
            ):
                self._num_unclear += 1
            elif line:
                links = word_links(_diagonal(own), source_words, target_words)
            linked.append(links)
        return linked

    def report(self) -> None:
        """Warn of the lines that were left without links."""
        if self._num_too_long:
            warn(
                f"{self._num_too_long} lines have no links: longer than the {self.max_ids} tokens "
                "that the model reads at once"
            )
        if self._num_unclear:
            warn(
                f"{self._num_unclear} lines have no links: the tokenizer's words are not those "
                "between spaces"
            )

    def _fits(self, pair: IdPair) -> bool:
        return max(map(len, pair)) <= self.max_ids


def _numbers(segments: Sequence[Sequence[int]], tokenizer: Tokenizer) -> list[int]:
    """Return the number of each piece's word in the whole line; each segment ends in a mark."""
    numbers = iter(word_numbers(tokenizer.pieces(list(chain.from_iterable(segments)))))
    return [number for ids in segments for number in (*(next(numbers) for _ in ids), NO_WORD)]


def _count(words: Sequence[int]) -> int:
    return max(words, default=NO_WORD) + 1


def _diagonal(parts: Sequence[FloatArray]) -> FloatArray:
    """Return the weights of a line whose segments saw nothing of each other."""
    whole = np.zeros(np.sum([part.shape for part in parts], axis=0), np.float32)
    row = column = 0
    for part in parts:
        whole[row : row + part.shape[0], column : column + part.shape[1]] = part
        row, column = row + part.shape[0], column + part.shape[1]
    return whole

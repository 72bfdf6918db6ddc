"""Links between the words of lines and their translations, from a model's attention."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from mtrain.console import warn
from mtrain.decoding.forced import ForcedDecoder, IdPair
from mtrain.decoding.translator import Translation
from mtrain.evaluation.alignment import word_links
from mtrain.text.lines import clean_bytes
from mtrain.text.links import Link
from mtrain.text.tokenizer import Tokenizer, TokenizerPair, word_numbers

NO_WORD = -1  # word number of end marks and prefixes


@dataclass(frozen=True)
class _Segment:
    """A pair that the model reads at once, with the word number of each piece in its line."""

    line: int
    ids: IdPair
    text: str  # of the source
    source_words: list[int]
    target_words: list[int]


class Linker:
    """Links the words of lines and their translations; counts the lines that it cannot link."""

    def __init__(self, tokenizers: TokenizerPair, decoder: ForcedDecoder) -> None:
        self._tokenizers = tokenizers
        self._decoder = decoder
        self.unlinked = Counter[str]()  # lines by reason: too long, unclear

    def link(
        self, lines: Sequence[Sequence[IdPair]], texts: Sequence[tuple[str, str]]
    ) -> list[set[Link]]:
        """Return the links between the words of each pair of `texts`, counted from 0.

        `lines` holds the ids of each pair in zero or more segments. A pair gets no links if a
        segment exceeds the model's limit, or if its pieces form other words than its text. If a
        word was cut between segments, each part may have its own link.
        """
        segments = [
            segment
            for number, (pairs, text) in enumerate(zip(lines, texts, strict=True))
            if pairs
            for segment in self._segments(number, pairs, text)
        ]
        links: list[set[Link]] = [set() for _ in lines]
        ids, sources = (
            [getattr(segment, name) for segment in segments] for name in ("ids", "text")
        )
        for row, weights in self._decoder.alignments(ids, sources):
            segment = segments[row]
            links[segment.line] |= word_links(weights, segment.source_words, segment.target_words)
        return links

    def link_translations(
        self, lines: Sequence[bytes], translations: Sequence[Translation]
    ) -> list[set[Link]]:
        """Return the links between the words of each line and its best translation."""
        texts = [(clean_bytes(line), translation.text)
                 for line, translation in zip(lines, translations, strict=True)]  # fmt: skip
        # an empty translation has nothing to link
        ids = [translation.segments if translation.text else () for translation in translations]
        return self.link(ids, texts)

    def report(self) -> None:
        """Warn about the lines that got no links."""
        if self.unlinked["too long"]:
            warn(
                f"{self.unlinked['too long']} lines have no links: longer than the "
                f"{self._decoder.max_ids} tokens that the model reads at once"
            )
        if self.unlinked["unclear"]:
            warn(
                f"{self.unlinked['unclear']} lines have no links: the tokenizer's words are not "
                "those between spaces"
            )

    def _segments(
        self, line: int, pairs: Sequence[IdPair], texts: tuple[str, str]
    ) -> list[_Segment]:
        if any(max(map(len, pair)) > self._decoder.max_ids for pair in pairs):
            self.unlinked["too long"] += 1
            return []
        sources, targets = zip(*pairs, strict=True)
        source_words = _numbers(sources, self._tokenizers.source)
        target_words = _numbers(targets, self._tokenizers.target)
        words = source_words, target_words
        if any(
            _count(side) not in _num_words(text) for side, text in zip(words, texts, strict=True)
        ):
            self.unlinked["unclear"] += 1
            return []
        read = [texts[0]] if len(pairs) == 1 else self._tokenizers.source.decode(sources)
        parts = zip(pairs, read, source_words, target_words, strict=True)
        return [_Segment(line, *part) for part in parts]


def _numbers(segments: Sequence[Sequence[int]], tokenizer: Tokenizer) -> list[list[int]]:
    """Return the word number in the line of each piece of each segment, then NO_WORD."""
    start = len(tokenizer.prefix)
    bare = [ids[start:] for ids in segments]
    numbers = iter(word_numbers(tokenizer.pieces(list(chain.from_iterable(bare)))))
    return [[NO_WORD] * start + [next(numbers) for _ in ids] + [NO_WORD] for ids in bare]


def _num_words(text: str) -> tuple[int, int]:
    """Count the words separated by blanks, and those separated by any whitespace.

    A no-break space is part of a word for tokenizers that keep it, a separator for others.
    """
    return sum(map(bool, text.split(" "))), len(text.split())


def _count(words: Sequence[Sequence[int]]) -> int:
    return max(chain.from_iterable(words), default=NO_WORD) + 1

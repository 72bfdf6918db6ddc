"""Links between the words of lines and their translations, from a model's attention."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product

from mtrain.console import warn
from mtrain.decoding.forced import ForcedDecoder, IdPair
from mtrain.decoding.translator import Translation
from mtrain.evaluation.alignment import word_links
from mtrain.text.lines import clean_bytes
from mtrain.text.links import Link, real_words
from mtrain.text.protection import Contents
from mtrain.text.tokenizer import Tokenizer, TokenizerPair, word_numbers

NO_WORD = -1  # word number of end marks and prefixes


@dataclass(frozen=True)
class _Segment:
    """A pair that the model reads at once, with the word number of each piece in its line.

    Each word stands for those words of the text whose numbers `real_words` give, source first.
    """

    line: int
    ids: IdPair
    text: str  # of the source
    source_words: list[int]
    target_words: list[int]
    real_words: tuple[list[range], list[range]]


class Linker:
    """Links the words of lines and their translations; counts the lines that it cannot link."""

    def __init__(self, tokenizers: TokenizerPair, decoder: ForcedDecoder) -> None:
        self._tokenizers = tokenizers
        self._decoder = decoder
        self.unlinked = Counter[str]()  # lines by reason

    def link(
        self,
        lines: Sequence[Sequence[IdPair]],
        texts: Sequence[tuple[str, str]],
        contents: Sequence[Contents | None] | None = None,
    ) -> list[set[Link]]:
        """Return the links between the words of each pair of `texts`, counted from 0.

        `lines` holds the ids of each pair in zero or more segments. A pair gets no links if a
        segment exceeds the model's limit, or if its pieces form other words than its text. If a
        word was cut between segments, each part may have its own link. `contents` say what the
        pieces of protected spans stand for, by default what they do in a given pair. The words of a
        span are linked one by one with those of the same span, and all of them with another word.
        """
        if contents is None:
            protect_pair = self._tokenizers.protection.protect_pair
            contents = [protect_pair(*pair).contents for pair in texts]
        segments = [
            segment
            for number, (pairs, text) in enumerate(zip(lines, texts, strict=True))
            if pairs
            for segment in self._segments(number, pairs, text, contents[number])
        ]
        links: list[set[Link]] = [set() for _ in lines]
        ids, sources = (
            [getattr(segment, name) for segment in segments] for name in ("ids", "text")
        )
        for row, weights in self._decoder.alignments(ids, sources):
            segment = segments[row]
            found = word_links(weights, segment.source_words, segment.target_words)
            links[segment.line].update(_real_links(found, *segment.real_words))
        return links

    def link_translations(
        self, lines: Sequence[bytes], translations: Sequence[Translation]
    ) -> list[set[Link]]:
        """Return the links between the words of each line and its best translation."""
        texts = [(clean_bytes(line), translation.text)
                 for line, translation in zip(lines, translations, strict=True)]  # fmt: skip
        # an empty translation has nothing to link
        ids = [translation.segments if translation.text else () for translation in translations]
        protect = self._tokenizers.protection.protect
        return self.link(ids, texts, [protect(source).contents for source, _ in texts])

    def report(self) -> None:
        """Warn about the lines that got no links."""
        warn_of_unlinked(self.unlinked)

    def _segments(
        self,
        line: int,
        pairs: Sequence[IdPair],
        texts: tuple[str, str],
        contents: Contents | None,
    ) -> list[_Segment]:
        if any(max(map(len, pair)) > self._decoder.max_ids for pair in pairs):
            most = self._decoder.max_ids
            self.unlinked[f"longer than the {most} tokens that the model reads at once"] += 1
            return []
        sources, targets = zip(*pairs, strict=True)
        source_words, source_ranges = _numbers(sources, self._tokenizers.source, contents)
        target_words, target_ranges = _numbers(targets, self._tokenizers.target, contents)
        ranges = source_ranges, target_ranges
        if any(
            _count(side) not in _num_words(text) for side, text in zip(ranges, texts, strict=True)
        ):
            self.unlinked["the tokenizer's words are not those between spaces"] += 1
            return []
        read = [texts[0]] if len(pairs) == 1 else self._tokenizers.source.decode(sources)
        read = read if contents is None else list(map(contents.fill, read))
        parts = zip(pairs, read, source_words, target_words, strict=True)
        return [_Segment(line, *part, ranges) for part in parts]


def warn_of_unlinked(unlinked: Mapping[str, int]) -> None:
    """Warn about lines that got no links, counted by reason."""
    for reason, count in sorted(unlinked.items()):
        warn(f"{count} lines have no links: {reason}")


def _numbers(
    segments: Sequence[Sequence[int]], tokenizer: Tokenizer, contents: Contents | None
) -> tuple[list[list[int]], list[range]]:
    """Return the word number in the line of each piece of each segment, then NO_WORD.

    Return as well which words of the text each of these words stands for.
    """
    start = len(tokenizer.prefix)
    bare = [ids[start:] for ids in segments]
    pieces = tokenizer.pieces(list(chain.from_iterable(bare)))
    numbers = iter(word_numbers(pieces))
    words = [[NO_WORD] * start + [next(numbers) for _ in ids] + [NO_WORD] for ids in bare]
    return words, real_words(pieces, contents)


def _real_links(
    links: set[Link], sources: Sequence[range], targets: Sequence[range]
) -> Iterator[Link]:
    """Yield the links between the words that linked words stand for."""
    for source, target in links:
        if len(sources[source]) == len(targets[target]):  # the same span, or a word each
            yield from zip(sources[source], targets[target], strict=True)
        else:
            yield from product(sources[source], targets[target])


def _num_words(text: str) -> tuple[int, int]:
    """Count the words separated by blanks, and those separated by any whitespace.

    A no-break space is part of a word for tokenizers that keep it, a separator for others.
    """
    return sum(map(bool, text.split(" "))), len(text.split())


def _count(words: Sequence[range]) -> int:
    return words[-1].stop if words else 0

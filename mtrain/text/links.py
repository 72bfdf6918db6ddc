"""Word links of a pair: parses the Pharaoh format and maps links from words to tokens.

A link is (source, target), both counted from 0. Independent of corpora and of link storage.
"""

import re
from collections.abc import Sequence

from mtrain.errors import UserError
from mtrain.text.lines import clean_bytes
from mtrain.text.tokenizer import Tokenizer, TokenizerPair, word_numbers

Link = tuple[int, int]
SIDES = ("source", "target")
LINK = re.compile("([0-9]{1,9})([-p])([0-9]{1,9})")


def parse_link(text: str, where: str, separators: str = "-") -> tuple[Link, str]:
    """Return a link and its separator; the separator `p` marks a possible link.

    Raises `UserError`, naming `where`, if the text is not a link with one of the separators.
    """
    found = LINK.fullmatch(text)
    if not found or found[2] not in separators:
        hint = "write links as 0-0 1-2: source word - target word"
        raise UserError(
            f"{where}: {text[:40]!r} is not a link",
            f"{hint}, possible ones as 3p4" if "p" in separators else f"{hint}, counted from 0",
        )
    return (int(found[1]), int(found[3])), found[2]


def parse_links(line: bytes, num_words: tuple[int, int], where: str) -> list[Link]:
    """Return the distinct links of a line such as `0-0 1-2`; `num_words` counts each side's words.

    Raises `UserError`, naming `where`, for a malformed link or a word number out of range.
    """
    links = []
    for text in clean_bytes(line).split():
        link, _ = parse_link(text, where)
        if link[0] >= num_words[0] or link[1] >= num_words[1]:
            side = int(link[0] < num_words[0])
            raise UserError(
                f"{where}: the link {text} leaves its pair: {SIDES[side]} word {link[side]} of "
                f"{num_words[side]}",
                "words stand between blanks and are counted from 0; line n has the links of pair n",
            )
        links.append(link)
    return list(dict.fromkeys(links))


class LinkMapper:
    """Maps word links to token links; counts the pairs that keep and that lose their links."""

    def __init__(self, tokenizers: TokenizerPair) -> None:
        self._pieces = [_all_pieces(tokenizers.source), _all_pieces(tokenizers.target)]
        self._num_linked = self._num_unmatched = 0

    def map(
        self, links: Sequence[Link] | None, texts: Sequence[str], ids: Sequence[Sequence[int]]
    ) -> list[Link]:
        """Link each token of a linked word to each token of the other side's word.

        `texts` and `ids` are the pair's, source first. A pair loses its links if they are None, or
        if the tokens of a side have another number of words than its text has between blanks;
        normalisation can cause that.
        """
        if links is None:
            self._num_unmatched += 1
        if not links:
            return []
        sources, targets = map(_tokens_of_words, ids, self._pieces)
        if [len(sources), len(targets)] != [len(text.split()) for text in texts]:
            self._num_unmatched += 1
            return []
        self._num_linked += 1
        return [
            (s, t) for source, target in links for s in sources[source] for t in targets[target]
        ]

    def counts(self) -> dict[str, int]:
        """Return how many pairs kept their links, and how many lost them."""
        return {"pairs": self._num_linked, "lost": self._num_unmatched}


def _all_pieces(tokenizer: Tokenizer) -> list[str]:
    return tokenizer.pieces(range(tokenizer.vocab_size))


def _tokens_of_words(ids: Sequence[int], all_pieces: Sequence[str]) -> list[list[int]]:
    """Return the token positions of each word."""
    words: list[list[int]] = []
    for place, number in enumerate(word_numbers([all_pieces[token] for token in ids])):
        if number == len(words):
            words.append([])
        words[number].append(place)
    return words

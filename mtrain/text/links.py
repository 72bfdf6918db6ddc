"""Word links of a pair: parses the Pharaoh format and maps links from words to tokens.

A link is (source, target), both counted from 0. Independent of corpora and of link storage.
"""

import re
from collections.abc import Sequence
from copy import copy
from itertools import accumulate, pairwise

from mtrain.errors import UserError
from mtrain.text.lines import clean_bytes
from mtrain.text.protection import PIECES, Contents
from mtrain.text.tokenizer import WORD_START, Tokenizer, TokenizerPair, word_numbers

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


def real_words(pieces: Sequence[str], contents: Contents | None) -> list[range]:
    """Return, for each word that the pieces form, the numbers of the words that it stands for.

    A piece of a protected span stands for as many words as its content has. A word that is nothing
    but a piece without a content is removed from the text, and stands for none. If `contents` is
    None, nothing is protected: all is text.
    """
    words: list[list[str]] = []
    for piece, number in zip(pieces, word_numbers(pieces), strict=True):
        if number == len(words):
            words.append([])
        words[number].append(piece)
    ends = list(accumulate((_num_real_words(word, contents) for word in words), initial=0))
    return [range(*bounds) for bounds in pairwise(ends)]


def _num_real_words(word: Sequence[str], contents: Contents | None) -> int:
    if contents is None:
        return 1
    found = [contents.content_of(piece) for piece in word if piece in PIECES]
    has_text = any(piece not in PIECES and piece != WORD_START for piece in word)
    if found and not (has_text or any(found)):
        return 0
    return 1 + sum((content or "").count(" ") for content in found)


class LinkMapper:
    """Maps word links to token links; counts the pairs that keep and that lose their links."""

    def __init__(self, tokenizers: TokenizerPair) -> None:
        self._pieces = [_all_pieces(tokenizers.source), _all_pieces(tokenizers.target)]
        self._num_linked = self._num_unmatched = 0

    def fresh(self) -> "LinkMapper":
        """Return another one for the same tokenizers that has not counted anything."""
        mapper = copy(self)
        mapper._num_linked = mapper._num_unmatched = 0
        return mapper

    def map(
        self,
        links: Sequence[Link] | None,
        texts: Sequence[str],
        ids: Sequence[Sequence[int]],
        contents: Contents | None = None,
    ) -> list[Link]:
        """Link each token of a linked word to each token of the other side's word.

        `texts` and `ids` are the pair's, source first; `contents` say what the pieces of protected
        spans stand for. A pair loses its links if they are None, or if the tokens of a side have
        another number of words than its text has between blanks; normalisation can cause that.
        """
        if links is None:
            self._num_unmatched += 1
        if not links:
            return []
        sources, targets = (_tokens_of_words([all_pieces[token] for token in row], contents)
                            for row, all_pieces in zip(ids, self._pieces, strict=True))  # fmt: skip
        if [len(sources), len(targets)] != [len(text.split()) for text in texts]:
            self._num_unmatched += 1
            return []
        self._num_linked += 1
        found = ((s, t) for source, target in links
                 for s in sources[source] for t in targets[target])  # fmt: skip
        return list(dict.fromkeys(found))  # two words of one span have the same token

    def counts(self) -> dict[str, int]:
        """Return how many pairs kept their links, and how many lost them."""
        return {"pairs": self._num_linked, "lost": self._num_unmatched}


def _all_pieces(tokenizer: Tokenizer) -> list[str]:
    return tokenizer.pieces(range(tokenizer.vocab_size))


def _tokens_of_words(pieces: Sequence[str], contents: Contents | None) -> list[list[int]]:
    """Return the token positions of each word of the text that the pieces stand for."""
    ranges = real_words(pieces, contents)
    words: list[list[int]] = [[] for _ in range(ranges[-1].stop if ranges else 0)]
    for place, number in enumerate(word_numbers(pieces)):
        for word in ranges[number]:
            words[word].append(place)
    return words

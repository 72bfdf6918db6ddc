"""Word alignment: Pharaoh format, error rate, symmetrisation, links from attention.

A link is (source word, target word), both counted from 0. Depends on no model: attention is an
array of weights.

Shapes: T target pieces, S source pieces.
"""

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from functools import partial
from operator import and_, or_
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from mtrain.errors import UserError
from mtrain.text.lines import clean_bytes, read_lines
from mtrain.text.links import Link, parse_link

Links = Set[Link]

# In Moses' order: the result of growing depends on it.
NEIGHBOURS = ((0, -1), (-1, 0), (0, 1), (1, 0), (-1, -1), (1, -1), (-1, 1), (1, 1))


@dataclass(frozen=True)
class Gold:
    """The human alignment of one sentence pair."""

    sure: Links
    possible: Links  # includes the sure links


@dataclass(frozen=True)
class AlignmentScore:
    """Alignment error rate of links A against sure links S and possible links P, with counts.

    Och & Ney 2003, section 5: precision |A∩P| / |A|, recall |A∩S| / |S|,
    AER 1 - (|A∩S| + |A∩P|) / (|A| + |S|). All are fractions over the whole corpus.
    """

    aer: float
    precision: float
    recall: float
    sentences: int
    links: int  # |A|
    sure_links: int  # |S|
    links_possible: int  # |A∩P|
    links_sure: int  # |A∩S|


def read_alignments(path: Path, first_index: int = 0) -> list[Gold]:
    """Read a file of lines like `0-0 1-2 3p4`: sure links i-j, possible links ipj.

    The file counts words from `first_index`; the returned links count from 0. Raises UserError
    for an invalid link.
    """
    return [
        _read_links(clean_bytes(line), f"{path}:{number}", first_index)
        for number, line in enumerate(read_lines(path), start=1)
    ]


def _read_links(line: str, where: str, first_index: int) -> Gold:
    sure, possible = set(), set()
    for text in line.split():
        written, separator = parse_link(text, where, "-p")
        link = (written[0] - first_index, written[1] - first_index)
        if min(link) < 0:
            raise UserError(
                f"{where}: the link {text} has a word before the first, which is {first_index}",
                "are this file's words counted from 1 or from 0?",
            )
        possible.add(link)
        if separator == "-":
            sure.add(link)
    return Gold(sure, possible)


def format_links(links: Links) -> str:
    """Return links as a line in Pharaoh format, sorted: `0-0 1-2`."""
    return " ".join(f"{source}-{target}" for source, target in sorted(links))


def alignment_error_rate(hypotheses: Sequence[Links], golds: Sequence[Gold]) -> AlignmentScore:
    """Return the alignment error rate over all sentence pairs.

    Without links to divide by, precision and recall are 1 and the error rate is 0.
    """
    pairs = list(zip(hypotheses, golds, strict=True))
    links = sum(len(hypothesis) for hypothesis in hypotheses)
    sure_links = sum(len(gold.sure) for gold in golds)
    links_possible = sum(len(hypothesis & gold.possible) for hypothesis, gold in pairs)
    links_sure = sum(len(hypothesis & gold.sure) for hypothesis, gold in pairs)
    return AlignmentScore(
        aer=1.0 - _share(links_sure + links_possible, links + sure_links),
        precision=_share(links_possible, links),
        recall=_share(links_sure, sure_links),
        sentences=len(golds),
        links=links,
        sure_links=sure_links,
        links_possible=links_possible,
        links_sure=links_sure,
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def symmetrise(forward: Links, backward: Links, method: str) -> Links:
    """Combine the alignments of both directions of a sentence pair into one.

    `forward` comes from the source-to-target model. `backward` comes from the reverse model, with
    links flipped to (source, target). `method` is a name in SYMMETRISATIONS. Koehn, Och & Marcu
    2003, in the order of Moses' symal.
    """
    return SYMMETRISATIONS[method](forward, backward)


def _grow(
    forward: Links, backward: Links, final: Callable[[Iterable[bool]], bool] | None
) -> set[Link]:
    """Grow the intersection by neighbours from the union, then by the links that `final` accepts.

    Adds a neighbour if one of its words has no link yet, a final link if `any` or `all` have none.
    """
    links, union = set(forward & backward), forward | backward
    sources, targets = {source for source, _ in links}, {target for _, target in links}

    def add(candidates: Iterable[Link], is_wanted: Callable[[Iterable[bool]], bool]) -> None:
        for source, target in candidates:
            if is_wanted((source not in sources, target not in targets)):
                links.add((source, target))
                sources.add(source)
                targets.add(target)

    num_before = -1
    while len(links) > num_before:
        num_before = len(links)
        for source, target in sorted(union, key=_target_first):
            if (source, target) in links:  # may have been added in this pass
                near = [(source + right, target + down) for right, down in NEIGHBOURS]
                add([link for link in near if link in union], any)
    if final is not None:
        add(sorted(forward, key=_target_first), final)
        add(sorted(backward, key=_target_first), final)
    return links


def _target_first(link: Link) -> Link:
    return link[1], link[0]


SYMMETRISATIONS: dict[str, Callable[[Links, Links], Links]] = {
    "intersection": and_,
    "union": or_,
    "grow-diag": partial(_grow, final=None),
    "grow-diag-final": partial(_grow, final=any),
    "grow-diag-final-and": partial(_grow, final=all),
}


def word_links(weights: ArrayLike, source_words: ArrayLike, target_words: ArrayLike) -> set[Link]:
    """Link each target word to the source word that it attends to most.

    `weights` (T, S) is the attention of target pieces over source pieces. `source_words` (S,) and
    `target_words` (T,) give the word number of each piece (`tokenizer.word_numbers`), -1 for
    pieces outside any word, such as end marks.
    Weights are summed over the pieces of a source word, averaged over those of a target word. A
    target word gets no link if it attends most to the source pieces outside any word, summed.
    """
    source_words, target_words = np.asarray(source_words), np.asarray(target_words)
    # -1, for no word, sorts first: argmax picks it in a tie, so that a tie gives no link
    sources, targets = np.unique(source_words), np.unique(target_words[target_words >= 0])
    is_of_source = source_words[:, None] == sources
    is_of_target = targets[:, None] == target_words  # the argmax of sums is that of means
    if not sources.size:
        return set()
    attended = is_of_target @ np.asarray(weights, dtype=np.float64) @ is_of_source
    likeliest = sources[attended.argmax(axis=1)]
    links = zip(likeliest.tolist(), targets.tolist(), strict=True)
    return {(source, target) for source, target in links if source >= 0}

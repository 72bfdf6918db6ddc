"""Quality by the length of the source."""

from collections.abc import Sequence
from dataclasses import dataclass

from mtrain.evaluation.metrics import bleu_and_chrf

UPPER_BOUNDS = (5, 10, 15, 20, 30, 40, 60)  # words


@dataclass(frozen=True)
class Bucket:
    """The sentences whose source has `shortest` to `longest` words."""

    shortest: int
    longest: int | None
    sentences: int
    bleu: float
    chrf: float
    length_ratio: float  # words of the hypotheses over words of the references


def score_by_length(
    sources: Sequence[str], hypotheses: Sequence[str], references: Sequence[str], target_lang: str
) -> list[Bucket]:
    """Return corpus BLEU and chrF of each range of source lengths that has sentences."""
    buckets, shortest = [], 0
    for longest in (*UPPER_BOUNDS, None):
        rows = [row for row, source in enumerate(sources)
                if shortest <= len(source.split()) <= (longest or len(source))]  # fmt: skip
        if rows:
            said, wanted = [hypotheses[row] for row in rows], [references[row] for row in rows]
            bleu, chrf = bleu_and_chrf(said, wanted, target_lang)
            ratio = _num_words(said) / max(1, _num_words(wanted))
            buckets.append(Bucket(shortest, longest, len(rows), bleu, chrf, ratio))
        shortest = (longest or 0) + 1
    return buckets


def _num_words(lines: Sequence[str]) -> int:
    return sum(len(line.split()) for line in lines)

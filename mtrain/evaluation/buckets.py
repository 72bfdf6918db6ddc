"""Translation quality by source length."""

from collections.abc import Sequence
from dataclasses import dataclass

from mtrain.evaluation.metrics import References, bleu_and_chrf_of_several
from mtrain.text.languages import find_language

UPPER_BOUNDS = (5, 10, 15, 20, 30, 40, 60)  # words


@dataclass(frozen=True)
class Bucket:
    """Scores of the sentences with `shortest` to `longest` source words."""

    shortest: int
    longest: int | None
    sentences: int
    bleu: float
    chrf: float
    # hypothesis length over reference length, in words (characters for a language without
    # spaces); with several references, the nearest in length counts, as in BLEU
    length_ratio: float


def score_by_length(
    sources: Sequence[str], hypotheses: Sequence[str], references: References, target_lang: str
) -> list[Bucket]:
    """Return corpus BLEU and chrF for each range of source lengths, without empty ranges."""
    buckets, shortest = [], 0
    for longest in (*UPPER_BOUNDS, None):
        rows = [row for row, source in enumerate(sources)
                if shortest <= len(source.split()) <= (longest or len(source))]  # fmt: skip
        if rows:
            said = [hypotheses[row] for row in rows]
            wanted = [[reference[row] for row in rows] for reference in references]
            bleu, chrf = bleu_and_chrf_of_several(said, wanted, target_lang)
            ratio = _length_ratio(said, wanted, find_language(target_lang).is_spaced)
            buckets.append(Bucket(shortest, longest, len(rows), bleu, chrf, ratio))
        shortest = (longest or 0) + 1
    return buckets


def _length_ratio(hypotheses: Sequence[str], references: References, is_spaced: bool) -> float:
    said = wanted = 0
    for hypothesis, *translations in zip(hypotheses, *references, strict=True):
        length = _length(hypothesis, is_spaced)
        lengths = [_length(translation, is_spaced) for translation in translations]
        said += length
        wanted += min(lengths, key=lambda other: (abs(other - length), other))
    return said / max(1, wanted)


def _length(line: str, is_spaced: bool) -> int:
    words = line.split()
    return len(words) if is_spaced else sum(map(len, words))

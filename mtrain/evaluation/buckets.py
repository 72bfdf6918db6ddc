"""Translation quality by source length."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mtrain.evaluation.health import Health, LineHealth, health_of
from mtrain.evaluation.metrics import References, bleu_and_chrf_of_several

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
    health: Health


def score_by_length(
    sources: Sequence[str],
    hypotheses: Sequence[str],
    references: References,
    target_lang: str,
    judged: Sequence[LineHealth],
    unknown: Collection[str] = (),
) -> list[Bucket]:
    """Return corpus BLEU, chrF and health for each range of source lengths, without empty ranges.

    `judged` is the health of each line; `unknown` are the statuses that it leaves open.
    """
    buckets, shortest = [], 0
    num_words = [len(source.split()) for source in sources]
    for longest in (*UPPER_BOUNDS, None):
        rows = [row for row, count in enumerate(num_words)
                if shortest <= count <= (longest or count)]  # fmt: skip
        if rows:
            said = [hypotheses[row] for row in rows]
            wanted = [[reference[row] for row in rows] for reference in references]
            bleu, chrf = bleu_and_chrf_of_several(said, wanted, target_lang)
            health = health_of(judged, rows, unknown)
            scores = bleu, chrf, health.length_ratio, health
            buckets.append(Bucket(shortest, longest, len(rows), *scores))
        shortest = (longest or 0) + 1
    return buckets

"""The sentences that a system translates worse than a baseline does."""

from collections.abc import Sequence
from dataclasses import dataclass

from mtrain.evaluation.metrics import References, sentence_chrf

SENTENCE_METRIC = "chrF2"
MOST_SENTENCES = 5


@dataclass(frozen=True)
class WorseSentence:
    """One sentence, as two systems translate it, with chrF2 of each translation."""

    line: int  # from 1
    source: str | None  # None if the sources are not known
    reference: str  # the first of several
    before: str
    now: str
    score_before: float
    score_now: float


def worst_sentences(
    sources: Sequence[str] | None,
    references: References,
    before: Sequence[str],
    now: Sequence[str],
) -> list[WorseSentence]:
    """Return the MOST_SENTENCES sentences that lost most chrF2, the greatest loss first."""
    changed = [row for row, (old, new) in enumerate(zip(before, now, strict=True)) if old != new]
    wanted = [[reference[row] for row in changed] for reference in references]
    scores = [sentence_chrf([lines[row] for row in changed], wanted) for lines in (before, now)]
    found = [
        WorseSentence(
            row + 1,
            sources[row] if sources else None,
            references[0][row],
            before[row],
            now[row],
            score_before,
            score_now,
        )
        for row, score_before, score_now in zip(changed, *scores, strict=True)
        if score_now < score_before
    ]
    found.sort(key=lambda sentence: sentence.score_now - sentence.score_before)
    return found[:MOST_SENTENCES]

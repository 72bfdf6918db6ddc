"""A set of sentences, and all scores of its translations."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mtrain.config.corpora import Languages
from mtrain.evaluation.buckets import Bucket, score_by_length
from mtrain.evaluation.metrics import PairedScore, References, Score, compare, score
from mtrain.evaluation.worse import WorseSentence, worst_sentences


@dataclass(frozen=True)
class SetTexts:
    """The texts of a set; `hypotheses` are empty until it is translated."""

    name: str
    languages: Languages  # the source's is empty for files
    sources: Sequence[str] | None
    references: References
    hypotheses: Sequence[str] = ()

    @property
    def direction(self) -> str:
        """Return the languages as en-de; nothing for files."""
        return "-".join(self.languages) if self.languages[0] else ""


@dataclass(frozen=True)
class ScoredSet:
    """All scores of one set of sentences."""

    name: str
    direction: str  # as en-de; empty for files
    sentences: int
    scores: list[Score]
    by_length: list[Bucket]
    comparison: list[PairedScore]  # empty without a baseline, as are `worse`
    worse: list[WorseSentence]
    texts: SetTexts | None = None  # None if masked tokens were scored

    @property
    def main(self) -> Score:
        """The score that --fail-under checks: BLEU, or masked accuracy."""
        return self.scores[0]

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the texts, for JSON."""
        fields = asdict(replace(self, texts=None))
        del fields["texts"]
        return fields


def score_set(texts: SetTexts, before: Sequence[str] | None) -> ScoredSet:
    """Score the hypotheses of a set, and compare them with a baseline's if given."""
    said, wanted, target_lang = texts.hypotheses, texts.references, texts.languages[1]
    return ScoredSet(
        texts.name,
        texts.direction,
        len(said),
        score(said, wanted, target_lang),
        score_by_length(texts.sources, said, wanted, target_lang) if texts.sources else [],
        compare(said, before, wanted, target_lang) if before else [],
        worst_sentences(texts.sources, wanted, before, said) if before else [],
        texts,
    )

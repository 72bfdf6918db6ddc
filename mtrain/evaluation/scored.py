"""A set of sentences, and all scores of its translations."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mtrain.config.corpora import Languages
from mtrain.evaluation.buckets import Bucket, score_by_length
from mtrain.evaluation.health import (
    INVALID_UTF8,
    NEED_SEARCH,
    NEED_SOURCE,
    Facts,
    Health,
    LineHealth,
    health_of,
    judge_line,
)
from mtrain.evaluation.metrics import (
    DEFAULT_METRICS,
    PairedScore,
    References,
    Score,
    compare,
    score,
)
from mtrain.evaluation.suite import SuiteResult
from mtrain.evaluation.worse import WorseSentence, worst_sentences


@dataclass(frozen=True)
class SetTexts:
    """The texts of a set, and its metrics; `hypotheses` are empty until it is translated."""

    name: str
    languages: Languages  # the source's is empty for files
    sources: Sequence[str] | None
    references: References
    hypotheses: Sequence[str] = ()
    facts: Sequence[Facts] = ()  # of each line, if known; of files only whether it was UTF-8
    metrics: Sequence[str] = DEFAULT_METRICS

    @property
    def direction(self) -> str:
        """Return the languages as en-de; nothing for files."""
        return "-".join(self.languages) if self.languages[0] else ""

    @property
    def unknown(self) -> list[str]:
        """Return the statuses that cannot be judged: without facts, of files, without sources."""
        needs = {
            INVALID_UTF8: bool(self.facts),
            **dict.fromkeys(NEED_SEARCH, bool(self.facts and self.languages[0])),
            **dict.fromkeys(NEED_SOURCE, self.sources is not None),
        }
        return [status for status, is_known in needs.items() if not is_known]

    def judge(self) -> list[LineHealth]:
        """Return the health of each hypothesis."""
        sources: Sequence[str | None] = self.sources or [None] * len(self.hypotheses)
        facts = self.facts or [Facts()] * len(self.hypotheses)
        rows = zip(sources, self.hypotheses, facts, *self.references, strict=True)
        return [judge_line(source, said, self.languages, facts, references)
                for source, said, facts, *references in rows]  # fmt: skip


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
    health: Health | None = None  # None if masked tokens were scored, as are `texts`
    texts: SetTexts | None = None

    @property
    def main(self) -> Score:
        """The score that --fail-under checks: of the first metric, or masked accuracy."""
        return self.scores[0]

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the texts, for JSON."""
        fields = asdict(replace(self, texts=None))
        del fields["texts"]
        return fields


@dataclass(frozen=True)
class Scored:
    """All that a command has scored."""

    sets: list[ScoredSet]
    suite: SuiteResult | None = None


def score_set(texts: SetTexts, before: Sequence[str] | None) -> ScoredSet:
    """Score the hypotheses of a set, and compare them with a baseline's if given."""
    said, wanted, target_lang = texts.hypotheses, texts.references, texts.languages[1]
    judged, unknown = texts.judge(), texts.unknown
    by_length = []
    if texts.sources:
        by_length = score_by_length(texts.sources, said, wanted, target_lang, judged, unknown)
    return ScoredSet(
        texts.name,
        texts.direction,
        len(said),
        score(said, wanted, target_lang, texts.metrics),
        by_length,
        compare(said, before, wanted, target_lang, texts.metrics) if before else [],
        worst_sentences(texts.sources, wanted, before, said) if before else [],
        health_of(judged, range(len(judged)), unknown),
        texts,
    )

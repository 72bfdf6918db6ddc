"""Scores with signatures, quality by source length, and samples of translations."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mtrain.evaluation.buckets import Bucket
from mtrain.evaluation.metrics import sentence_chrf
from mtrain.evaluation.report.chart import bar
from mtrain.evaluation.report.markup import (
    Html,
    element,
    join,
    prose,
    section,
    table,
    text_of_user,
)
from mtrain.evaluation.scored import ScoredSet, SetTexts

NUM_SAMPLES = 12  # of all directions together
RANKS = ("best", "median", "worst")


@dataclass(frozen=True)
class Sample:
    """One translation, with its place among all by sentence chrF."""

    rank: str
    line: int  # from 1
    chrf: float
    source: str
    reference: str
    output: str


def scores_section(scored: Sequence[ScoredSet], missing: str | None) -> Html:
    """Return the scores of each set, or what is missing."""
    if not scored:
        return section("Scores", prose(missing or "There is no scored set."))
    rows = [
        [entry.name, entry.direction, f"{entry.sentences:,}", figure.name, f"{figure.value:.2f}",
         element("code", figure.signature)]
        for entry in scored
        for figure in entry.scores
    ]  # fmt: skip
    header = ["set", "direction", "sentences", "metric", "value", "signature"]
    note = (
        "The valid set has chosen the best checkpoint, so its scores are a little optimistic; "
        "those of a test set are not."
    )
    return section("Scores", table(header, rows), prose(note))


def lengths_section(scored: Sequence[ScoredSet]) -> Html:
    """Return quality by source length for each set that has it."""
    found = [entry for entry in scored if entry.by_length]
    if not found:
        return Html()
    tables = [_by_length(entry) for entry in found]
    return section(
        "Quality by source length",
        *tables,
        prose(
            "The length ratio is output over reference: far below 1, translations stop too early."
        ),
    )


def _by_length(entry: ScoredSet) -> Html:
    highest = {name: max(getattr(bucket, name) for bucket in entry.by_length)
               for name in ("bleu", "chrf")}  # fmt: skip
    rows = [
        [_bounds(bucket), f"{bucket.sentences:,}", bar(bucket.bleu, highest["bleu"]),
         bar(bucket.chrf, highest["chrf"]), f"{bucket.length_ratio:.3f}"]
        for bucket in entry.by_length
    ]  # fmt: skip
    header = ["source words", "sentences", "BLEU", "chrF", "length ratio"]
    return table(header, rows, f"{entry.name} {entry.direction}".strip())


def _bounds(bucket: Bucket) -> str:
    if bucket.longest is None:
        return f"over {bucket.shortest - 1}"
    return f"{bucket.shortest}\N{EN DASH}{bucket.longest}"


def samples_section(texts: Sequence[SetTexts]) -> Html:
    """Return some of the best, median and worst translations of each direction."""
    translated = [each for each in texts if each.hypotheses and each.sources]
    if not translated:
        return Html()
    count = max(len(RANKS), NUM_SAMPLES // len(translated))
    parts: list[Html] = []
    for each in translated:
        if len(translated) > 1:
            parts.append(element("h3", each.direction))
        parts += [_card(sample, each) for sample in spread_samples(each, count)]
    return section(
        "Samples",
        prose("Translations of the valid set by their chrF2: the best, the median, the worst."),
        *parts,
    )


def spread_samples(texts: SetTexts, count: int) -> list[Sample]:
    """Return the best, the median and the worst lines by chrF2, about `count` in all.

    No line comes twice; of few lines, returns all.
    """
    assert texts.sources is not None
    scores = sentence_chrf(texts.hypotheses, texts.references)
    order = sorted(range(len(scores)), key=lambda row: (-scores[row], row))
    each, most = count // len(RANKS), len(order)
    middle = (most - each) // 2
    runs = [order[:each], order[middle : middle + each], order[most - each :]]
    if most < count:
        bounds = [number * most // len(RANKS) for number in range(len(RANKS) + 1)]
        runs = [order[start:end] for start, end in pairwise(bounds)]
    return [
        Sample(rank, row + 1, scores[row], texts.sources[row], texts.references[0][row],
               texts.hypotheses[row])
        for rank, run in zip(RANKS, runs, strict=True)
        for row in run
    ]  # fmt: skip


def _card(sample: Sample, texts: SetTexts) -> Html:
    source, target = texts.languages
    rows = [("source", sample.source, source), ("reference", sample.reference, target),
            ("output", sample.output, target)]  # fmt: skip
    lines = [
        join([element("dt", name), text_of_user(text or "(empty)", "dd", language)])
        for name, text, language in rows
    ]
    title = f"{sample.rank}, line {sample.line:,}: chrF2 {sample.chrf:.1f}"
    return element(
        "article", element("h4", title), element("dl", *lines), class_=f"sample {sample.rank}"
    )

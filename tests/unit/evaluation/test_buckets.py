"""Quality by length: every sentence in exactly one bucket, scored like any other set."""

import random

import pytest

from mtrain.evaluation.buckets import UPPER_BOUNDS, Bucket
from mtrain.evaluation.buckets import score_by_length as score_judged
from mtrain.evaluation.health import judge_line
from mtrain.evaluation.metrics import References, bleu_and_chrf


def score_by_length(
    sources: list[str], hypotheses: list[str], references: References, target_lang: str
) -> list[Bucket]:
    judged = [judge_line(source, said, ("", target_lang), references=wanted)
              for source, said, *wanted in zip(sources, hypotheses, *references, strict=True)
              ]  # fmt: skip
    return score_judged(sources, hypotheses, references, target_lang, judged)


def lines_of(lengths: list[int]) -> list[str]:
    generator = random.Random(1)
    return [" ".join(generator.choices("abcdefgh", k=length)) for length in lengths]


def test_the_buckets_part_all_sentences_among_them() -> None:
    lengths = [0, *range(1, 80), 500]
    random.Random(2).shuffle(lengths)
    sources = lines_of(lengths)
    buckets = score_by_length(sources, sources, [sources], "en")
    assert sum(bucket.sentences for bucket in buckets) == len(sources)
    for bucket in buckets:
        longest = bucket.longest if bucket.longest is not None else 10**9
        within = [length for length in lengths if bucket.shortest <= length <= longest]
        assert bucket.sentences == len(within)
    assert [bucket.longest for bucket in buckets] == [*UPPER_BOUNDS, None]
    assert buckets[0].shortest == 0


@pytest.mark.parametrize(("length", "place"), [(0, 0), (5, 0), (6, 1), (60, 6), (61, 7), (9000, 7)])
def test_a_length_is_in_its_bucket_alone(length: int, place: int) -> None:
    sources = lines_of([length])
    (bucket,) = score_by_length(sources, ["x y"], [["x y"]], "en")
    assert bucket.longest == [*UPPER_BOUNDS, None][place]
    assert bucket.sentences == 1


def test_the_length_of_the_source_decides_and_figures_are_those_of_its_sentences() -> None:
    sources = ["a b", "a b c d e f g", "b a", "g f e d c b a"]
    references = ["one two three four", "x", "five six seven eight", "y z"]
    hypotheses = ["one two three four", "x x", "five six seven nine", "y"]
    short, long = score_by_length(sources, hypotheses, [references], "en")
    for bucket, rows in ((short, (0, 2)), (long, (1, 3))):
        said, wanted = [hypotheses[row] for row in rows], [references[row] for row in rows]
        assert (bucket.bleu, bucket.chrf) == bleu_and_chrf(said, wanted, "en")
    assert short.length_ratio == 1.0
    assert long.length_ratio == 1.0  # three words for three
    assert short.bleu > long.bleu


def test_the_health_of_a_range_is_that_of_its_lines() -> None:
    sources = ["a b", "a b c d e f g", "b a", "g f e d c b a"]
    hypotheses = ["x", "y y y z", "", "z z z"]
    short, long = score_by_length(sources, hypotheses, [["u", "v", "w", "x"]], "en")
    assert (short.health.lines, short.health.any) == (2, 1)
    assert (short.health.counts["empty"], short.health.first_lines["empty"]) == (1, 3)
    assert long.health.counts["repeated"] == 2
    assert short.health.length_ratio == short.length_ratio


def test_empty_outputs_and_references_are_no_division_by_zero() -> None:
    (bucket,) = score_by_length(["a", "b"], ["", ""], [["", ""]], "en")
    assert (bucket.sentences, bucket.length_ratio) == (2, 0.0)
    assert score_by_length([], [], [[]], "en") == []


def test_the_length_ratio_is_by_the_nearest_reference_and_by_characters_without_spaces() -> None:
    references = [["a b c d e f", "a"], ["a b", "a b c"]]
    (bucket,) = score_by_length(["s", "s"], ["a b c", "a b c"], references, "en")
    assert bucket.length_ratio == 6 / 5
    (bucket,) = score_by_length(["s"], ["猫在睡觉"], [["猫睡 觉"]], "zho_Hans")
    assert bucket.length_ratio == 4 / 3

"""Metrics against sacreBLEU's own calls, and what the paired test tells apart."""

import random

import pytest
import sacrebleu
from sacremoses import MosesTokenizer

from mtrain.evaluation.metrics import (
    METRICS,
    bleu_and_chrf,
    bleu_tokenizer,
    compare,
    nearest,
    score,
    signatures,
)

REFERENCES = [
    "The cat sits on the mat, doesn't it?",
    "A man in a blue shirt is standing on a ladder.",
    "Two dogs run through the (wet) grass.",
    "Es kostet 3,50 € pro Stück.",
]
HYPOTHESES = [
    "The cat sat on the mat, didn't it?",
    "A man in a blue shirt stands on a ladder.",
    "two dogs are running through wet grass .",
    "Es kostet 3.50 € das Stück.",
]
CHINESE_REFERENCES = ["一个穿蓝衬衫的男人站在梯子上。", "两只狗在草地上跑。"]
CHINESE_HYPOTHESES = ["穿蓝色衬衫的男人站在梯子上。", "两只狗跑过草地。"]


def test_scores_and_signatures_are_sacrebleus_own() -> None:
    bleu, chrf, ter = score(HYPOTHESES, [REFERENCES], "de")
    wanted_bleu = sacrebleu.metrics.BLEU(tokenize="13a")
    wanted_chrf, wanted_ter = sacrebleu.metrics.CHRF(), sacrebleu.metrics.TER()
    for got, metric in ((bleu, wanted_bleu), (chrf, wanted_chrf), (ter, wanted_ter)):
        expected = metric.corpus_score(HYPOTHESES, [REFERENCES])
        assert got.value == expected.score
        assert got.signature == str(metric.get_signature())
        assert 0 < got.value < 100
    assert (bleu.name, chrf.name, ter.name) == ("BLEU", "chrF2", "TER")
    # cased, detokenised, 13a: what papers report
    assert bleu.value == sacrebleu.corpus_bleu(HYPOTHESES, [REFERENCES]).score
    assert {"case:mixed", "tok:13a", "nrefs:1"} <= set(bleu.signature.split("|"))


def test_what_training_watches_is_what_score_reports() -> None:
    bleu, chrf, _ = score(HYPOTHESES, [REFERENCES], "de")
    assert bleu_and_chrf(HYPOTHESES, REFERENCES, "de") == (bleu.value, chrf.value)


@pytest.mark.parametrize("language", ["zh", "zh-CN", "ZH", "zh_Hans", "zho_Hant", "cmn", "yue"])
def test_chinese_is_scored_with_the_tokenizer_for_chinese(language: str) -> None:
    bleu = score(CHINESE_HYPOTHESES, [CHINESE_REFERENCES], language)[0]
    expected = sacrebleu.corpus_bleu(CHINESE_HYPOTHESES, [CHINESE_REFERENCES], tokenize="zh")
    assert bleu.value == expected.score > 0
    assert "tok:zh" in bleu.signature
    assert bleu_and_chrf(CHINESE_HYPOTHESES, CHINESE_REFERENCES, language)[0] == bleu.value
    # 13a takes each sentence for one word
    assert score(CHINESE_HYPOTHESES, [CHINESE_REFERENCES], "de")[0].value < bleu.value


@pytest.mark.parametrize("language", ["ja", "ko", "jpn", "kor_Hang"])
def test_languages_that_want_a_package_do_without_it(language: str) -> None:
    assert bleu_tokenizer(language) in (f"{language[:2]}-mecab", "char")
    assert score(["東京は晴れです。"] * 2, [["東京は雨です。"] * 2], language)[0].value > 0


@pytest.mark.parametrize("language", ["th", "tha_Thai", "lo", "khm_Khmr", "my", "bo", "dz"])
def test_languages_without_spaces_are_scored_by_characters(language: str) -> None:
    hypotheses, references = ["ฉันชอบกินข้าว"], ["ผมชอบกินข้าว"]
    bleu = score(hypotheses, [references], language)[0]
    assert bleu.value == sacrebleu.corpus_bleu(hypotheses, [references], tokenize="char").score > 0
    assert bleu_and_chrf(hypotheses, references, language)[0] == bleu.value


@pytest.mark.parametrize("language", ["en", "words", "zh_Latn", "nan_Latn", "vie_Latn", "arb_Arab"])
def test_languages_with_spaces_are_scored_by_13a(language: str) -> None:
    assert bleu_tokenizer(language) == "13a"


def test_ter_of_a_language_without_spaces_has_asian_support() -> None:
    ter = score(CHINESE_HYPOTHESES, [CHINESE_REFERENCES], "zho_Hans")[2]
    metric = sacrebleu.metrics.TER(normalized=True, asian_support=True)
    assert ter.value == metric.corpus_score(CHINESE_HYPOTHESES, [CHINESE_REFERENCES]).score < 60
    assert {"asian:yes", "norm:yes"} <= set(ter.signature.split("|"))
    assert "asian:no" in score(HYPOTHESES, [REFERENCES], "de")[2].signature


def test_several_references_are_counted_as_sacrebleu_does() -> None:
    others = HYPOTHESES[:2] + REFERENCES[2:]
    alone = score(HYPOTHESES, [REFERENCES], "de")
    metrics = sacrebleu.metrics.BLEU(), sacrebleu.metrics.CHRF(), sacrebleu.metrics.TER()
    for metric, got, one in zip(metrics, score(HYPOTHESES, [REFERENCES, others], "de"), alone,
                                strict=True):  # fmt: skip
        assert got.value == metric.corpus_score(HYPOTHESES, [REFERENCES, others]).score
        assert got.value != one.value
        assert "nrefs:2" in got.signature
    for paired in compare(HYPOTHESES, REFERENCES, [REFERENCES, others], "de"):
        assert "nrefs:2" in paired.signature
        assert paired.baseline == pytest.approx(100)


def test_every_metric_can_be_chosen_and_says_what_it_is() -> None:
    scores = score(HYPOTHESES, [REFERENCES], "de", list(METRICS))
    plus = next(each for each in scores if each.name == "chrF2++")
    assert plus.value == sacrebleu.CHRF(word_order=2).corpus_score(HYPOTHESES, [REFERENCES]).score
    assert "nw:2" in plus.signature
    lower = next(each for each in scores if each.name == "BLEU-tok-lc")
    assert "case:lc" in lower.signature
    assert signatures("de", 1, list(METRICS)) == {each.name: each.signature for each in scores}
    chosen = ["chrf++", "ter", "bleu-tok-lc"]
    paired = compare(HYPOTHESES, REFERENCES, [REFERENCES], "de", chosen)
    assert [each.name for each in paired] == ["chrF2++", "BLEU-tok-lc"]
    assert [each.value for each in paired] == [plus.value, lower.value]


def test_tokenised_lower_cased_bleu_is_near_that_of_moses_tokens() -> None:
    """As papers on Multi30k report it: multi-bleu on lower-cased text of Moses' tokenizer."""

    def tokens(lines: list[str]) -> list[str]:
        moses = MosesTokenizer("de")
        return [moses.tokenize(line.lower(), return_str=True, escape=False) for line in lines]

    references = [
        "Ein Mann in einem blauen Hemd steht auf einer Leiter und putzt ein Fenster.",
        "Zwei Männer stehen am Herd; einer von ihnen bereitet Essen zu.",
        'Ein Schild mit der Aufschrift "Zu verkaufen" hängt an einer Tür.',
        "Drei Kinder (zwei Mädchen, ein Junge) spielen im Regen, nicht wahr?",
    ]
    hypotheses = [
        "Ein mann in einem Blauen Hemd steht auf einer Leiter und reinigt das Fenster.",
        "Zwei Männer stehen am Herd; einer bereitet das Essen zu.",
        'Ein Schild, auf dem "zu verkaufen" steht, hängt an einer Tür.',
        "Drei Kinder (zwei Mädchen, ein Junge) spielen im Regen.",
    ]
    (ours,) = score(hypotheses, [references], "de", ["bleu-tok-lc"])
    theirs = sacrebleu.corpus_bleu(
        tokens(hypotheses), [tokens(references)], tokenize="none", force=True
    )
    assert ours.value == pytest.approx(theirs.score, abs=0.2)
    (cased,) = score(hypotheses, [references], "de", ["bleu"])
    assert ours.value > cased.value + 1


def test_the_same_lines_score_100_and_no_common_word_0() -> None:
    bleu, chrf, ter = score(REFERENCES, [REFERENCES], "de")
    assert (round(bleu.value, 6), round(chrf.value, 6), ter.value) == (100.0, 100.0, 0.0)
    assert score(["zzz"] * 4, [REFERENCES], "de")[0].value == 0.0
    assert score([""] * 4, [REFERENCES], "de")[0].value == 0.0


# -- the paired test -------------------------------------------------------------------------------


def sentences(count: int) -> list[str]:
    generator = random.Random(1)
    words = [f"word{number}" for number in range(50)]
    return [" ".join(generator.choices(words, k=generator.randint(8, 15))) for _ in range(count)]


def worsened(lines: list[str], share: float, seed: int) -> list[str]:
    """Replace a share of the words by others."""
    generator = random.Random(seed)
    return [
        " ".join(word if generator.random() > share else "other" for word in line.split())
        for line in lines
    ]


def test_identical_outputs_are_not_significantly_different() -> None:
    references = sentences(100)
    output = worsened(references, 0.2, seed=2)
    for paired in compare(output, output, [references], "de"):
        assert paired.value == paired.baseline
        assert paired.p_value == 1.0


def test_equally_good_outputs_are_not_significantly_different() -> None:
    references = sentences(100)
    one, other = (worsened(references, 0.2, seed) for seed in (2, 3))
    for paired in compare(one, other, [references], "de"):
        assert paired.value != paired.baseline
        assert paired.p_value > 0.05


def test_a_clearly_better_output_is_and_the_two_are_not_mixed_up() -> None:
    references = sentences(100)
    better, worse = worsened(references, 0.1, seed=2), worsened(references, 0.3, seed=3)
    for system, baseline in ((better, worse), (worse, better)):
        expected = score(system, [references], "de"), score(baseline, [references], "de")
        compared = compare(system, baseline, [references], "de")
        assert [paired.name for paired in compared] == ["BLEU", "chrF2"]
        for paired, own, other in zip(compared, *expected, strict=False):  # not TER
            assert paired.p_value < 0.01
            assert paired.value == pytest.approx(own.value)
            assert paired.baseline == pytest.approx(other.value)
            assert (paired.value > paired.baseline) == (system is better)
            assert "bs:1000" in paired.signature


def test_the_paired_test_is_the_same_each_time() -> None:
    references = sentences(40)
    one, other = (worsened(references, 0.2, seed) for seed in (2, 3))
    assert compare(one, other, [references], "de") == compare(one, other, [references], "de")


def test_the_paired_test_uses_the_languages_tokenizer() -> None:
    bleu, _ = compare(CHINESE_HYPOTHESES, CHINESE_REFERENCES, [CHINESE_REFERENCES], "zh")
    assert "tok:zh" in bleu.signature
    assert bleu.value == score(CHINESE_HYPOTHESES, [CHINESE_REFERENCES], "zh")[0].value


def test_the_nearest_hypothesis_shares_most_with_the_reference() -> None:
    reference = "a small dog runs over the green field"
    far, near = "two men talk", "a small dog runs over a field"
    assert nearest([far, near, "a dog"], reference, "en") == 1
    assert nearest([near, near, reference], reference, "en") == 2
    assert nearest([near, near], reference, "en") == 0  # of equals, the first
    assert nearest(["", far], reference, "en") == nearest([far, ""], "", "en") == 0

"""BLEU, chrF and TER with their signatures, and paired tests. The only user of sacrebleu."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest, Result

BOOTSTRAP_SAMPLES = 1000


@dataclass(frozen=True)
class Score:
    """A figure and what it takes to reproduce it."""

    name: str
    value: float
    signature: str


@dataclass(frozen=True)
class PairedScore:
    """A metric on two outputs for the same references."""

    name: str
    value: float
    baseline: float
    p_value: float
    signature: str


def bleu_tokenizer(target_lang: str) -> str:
    """Return sacreBLEU's tokenizer for a language: 13a but where words are not spaced apart."""
    language = target_lang.lower().replace("_", "-").partition("-")[0]
    if language == "zh":
        return "zh"
    if language == "ja":
        return "ja-mecab" if find_spec("MeCab") and find_spec("ipadic") else "char"
    if language == "ko":
        return "ko-mecab" if find_spec("mecab_ko") else "char"
    return "13a"


def score(hypotheses: Sequence[str], references: Sequence[str], target_lang: str) -> list[Score]:
    """Return corpus BLEU, chrF and TER of detokenised text."""
    metrics: list[tuple[str, Metric]] = [
        ("BLEU", BLEU(tokenize=bleu_tokenizer(target_lang))),
        ("chrF2", CHRF()),
        ("TER", TER()),
    ]
    return [
        Score(
            name,
            metric.corpus_score(list(hypotheses), [list(references)]).score,
            str(metric.get_signature()),
        )
        for name, metric in metrics
    ]


def bleu_and_chrf(
    hypotheses: Sequence[str], references: Sequence[str], target_lang: str
) -> tuple[float, float]:
    """Return the two that training watches."""
    bleu = BLEU(tokenize=bleu_tokenizer(target_lang))
    return (
        bleu.corpus_score(list(hypotheses), [list(references)]).score,
        CHRF().corpus_score(list(hypotheses), [list(references)]).score,
    )


def compare(
    hypotheses: Sequence[str], baseline: Sequence[str], references: Sequence[str], target_lang: str
) -> list[PairedScore]:
    """Return BLEU and chrF of two outputs, with p from paired bootstrap resampling.

    Koehn 2004: the chance that the difference is one of this choice of sentences alone.
    """
    metrics = {"BLEU": BLEU(tokenize=bleu_tokenizer(target_lang), references=[list(references)]),
               "chrF2": CHRF(references=[list(references)])}  # fmt: skip
    systems: list[tuple[str, Sequence[str]]] = [
        ("baseline", list(baseline)),
        ("system", list(hypotheses)),
    ]
    test = PairedTest(systems, metrics, None, test_type="bs", n_samples=BOOTSTRAP_SAMPLES)
    signatures, results = test()
    paired = []
    for name in metrics:
        first, second = results[name]
        assert isinstance(first, Result)
        assert isinstance(second, Result)
        assert second.p_value is not None
        # where nothing differs in any sample, sacrebleu counts that as no sample against it
        p_value = second.p_value if second.score != first.score else 1.0
        paired.append(PairedScore(name, second.score, first.score, p_value, str(signatures[name])))
    return paired

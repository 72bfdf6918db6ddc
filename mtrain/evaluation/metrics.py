"""BLEU, chrF and TER with their signatures, and paired tests. The only user of sacrebleu."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest, Result

from mtrain.text.languages import find_language

BOOTSTRAP_SAMPLES = 1000

References = Sequence[Sequence[str]]  # one or several translations of the text, each with its lines


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
    """Return sacreBLEU's tokenizer for a language code: 13a where spaces stand between words.

    Elsewhere its own for Chinese, Japanese and Korean, the latter two where they are installed;
    else single characters. None is ever fetched.
    """
    language = find_language(target_lang)
    if language.is_han:
        return "zh"
    if language.base == "ja" and find_spec("MeCab") and find_spec("ipadic"):
        return "ja-mecab"
    if language.base == "ko":
        return "ko-mecab" if find_spec("mecab_ko") else "char"
    return "13a" if language.is_spaced else "char"


def score(hypotheses: Sequence[str], references: References, target_lang: str) -> list[Score]:
    """Return corpus BLEU, chrF and TER of detokenised text."""
    is_spaced = find_language(target_lang).is_spaced
    metrics: list[tuple[str, Metric]] = [
        ("BLEU", BLEU(tokenize=bleu_tokenizer(target_lang))),
        ("chrF2", CHRF()),
        ("TER", TER(normalized=not is_spaced, asian_support=not is_spaced)),
    ]
    return [
        Score(name, _corpus_score(metric, hypotheses, references), str(metric.get_signature()))
        for name, metric in metrics
    ]


def bleu_and_chrf(
    hypotheses: Sequence[str], references: Sequence[str], target_lang: str
) -> tuple[float, float]:
    """Return the two that training watches, against the lines of one reference."""
    return bleu_and_chrf_of_several(hypotheses, [references], target_lang)


def bleu_and_chrf_of_several(
    hypotheses: Sequence[str], references: References, target_lang: str
) -> tuple[float, float]:
    """Return corpus BLEU and chrF against one or several references."""
    bleu = BLEU(tokenize=bleu_tokenizer(target_lang))
    return (
        _corpus_score(bleu, hypotheses, references),
        _corpus_score(CHRF(), hypotheses, references),
    )


def _corpus_score(metric: Metric, hypotheses: Sequence[str], references: References) -> float:
    return float(metric.corpus_score(list(hypotheses), list(map(list, references))).score)


def compare(
    hypotheses: Sequence[str], baseline: Sequence[str], references: References, target_lang: str
) -> list[PairedScore]:
    """Return BLEU and chrF of two outputs, with p from paired bootstrap resampling.

    Koehn 2004: the chance that the difference is one of this choice of sentences alone.
    """
    streams = list(map(list, references))
    metrics = {"BLEU": BLEU(tokenize=bleu_tokenizer(target_lang), references=streams),
               "chrF2": CHRF(references=streams)}  # fmt: skip
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

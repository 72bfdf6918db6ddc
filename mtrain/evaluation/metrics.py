"""BLEU, chrF and TER with signatures, and paired tests. Only this module uses sacrebleu."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sacrebleu.dataset import DATASETS
from sacrebleu.dataset.wmt_xml import WMTXMLDataset
from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER
from sacrebleu.significance import PairedTest, Result
from sacrebleu.utils import SACREBLEU_DIR

from mtrain.text.languages import find_language

BOOTSTRAP_SAMPLES = 1000
LEAST_P_VALUE = 1 / (BOOTSTRAP_SAMPLES + 1)
DEFAULT_METRICS = ("bleu", "chrf", "ter")
ERROR_RATE = "ter"  # lower is better, so it is neither compared nor a gate
TEST_SETS = Path(SACREBLEU_DIR)  # where sacreBLEU keeps the test sets that it has fetched

References = Sequence[Sequence[str]]  # one or several references, each a list of lines


@dataclass(frozen=True)
class Score:
    """A corpus score and the signature that reproduces it."""

    name: str
    value: float
    signature: str


@dataclass(frozen=True)
class PairedScore:
    """A metric on two outputs with the same references."""

    name: str
    value: float
    baseline: float
    p_value: float
    signature: str


def chosen_references(test_set: str, pair: str) -> set[str]:
    """Return the fields with the references that sacreBLEU chooses among several; none if any is.

    For a set that it does not know, any is.
    """
    known = DATASETS.get(test_set)
    if not isinstance(known, WMTXMLDataset) or pair not in known.langpairs:
        return set()
    about, default = known.langpairs[pair], known.kwargs.get("refs", [])
    names = about.get("refs", default) if isinstance(about, dict) else default
    return {f"ref:{name}" if name else "ref" for name in names}


def bleu_tokenizer(target_lang: str) -> str:
    """Return sacreBLEU's tokenizer for a language code: 13a for languages with spaces.

    Chinese, Japanese and Korean have their own; the last two need an installed MeCab and fall
    back to characters, as do other languages without spaces. Nothing is downloaded.
    """
    language = find_language(target_lang)
    if language.is_han:
        return "zh"
    if language.base == "ja" and find_spec("MeCab") and find_spec("ipadic"):
        return "ja-mecab"
    if language.base == "ko":
        return "ko-mecab" if find_spec("mecab_ko") else "char"
    return "13a" if language.is_spaced else "char"


def _bleu(target_lang: str, **options: Any) -> Metric:
    return BLEU(tokenize=bleu_tokenizer(target_lang), **options)


def _chrf(_: str, **options: Any) -> Metric:
    return CHRF(**options)


def _ter(target_lang: str, **options: Any) -> Metric:
    is_spaced = find_language(target_lang).is_spaced
    return TER(normalized=not is_spaced, asian_support=not is_spaced, **options)


# By the name that `--metrics` takes: the name shown, and how to make one for a target language.
# bleu-tok-lc is close to what papers report of Moses-tokenised, lower-cased text.
METRICS: Mapping[str, tuple[str, Callable[..., Metric]]] = MappingProxyType({
    "bleu": ("BLEU", _bleu),
    "chrf": ("chrF2", _chrf),
    "chrf++": ("chrF2++", partial(_chrf, word_order=2)),
    "ter": ("TER", _ter),
    "bleu-tok-lc": ("BLEU-tok-lc", partial(_bleu, lowercase=True)),
})  # fmt: skip


def score(
    hypotheses: Sequence[str],
    references: References,
    target_lang: str,
    metrics: Sequence[str] = DEFAULT_METRICS,
) -> list[Score]:
    """Return corpus scores of detokenised text, by names in METRICS."""
    scores = []
    for title, make in (METRICS[name] for name in metrics):
        metric = make(target_lang)
        value = _corpus_score(metric, hypotheses, references)
        scores.append(Score(title, value, str(metric.get_signature())))
    return scores


def signatures(
    target_lang: str, num_references: int, metrics: Sequence[str] = DEFAULT_METRICS
) -> dict[str, str]:
    """Return the signature of each metric by the name shown; they depend on no hypothesis."""
    scores = score(["a"], [["a"]] * num_references, target_lang, metrics)
    return {each.name: each.signature for each in scores}


def bleu_and_chrf(
    hypotheses: Sequence[str], references: Sequence[str], target_lang: str
) -> tuple[float, float]:
    """Return corpus BLEU and chrF, the validation metrics, against one reference."""
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


def nearest(hypotheses: Sequence[str], reference: str, target_lang: str) -> int:
    """Return the index of the hypothesis with the highest sentence BLEU; of equals, the first."""
    if len(set(hypotheses)) == 1:
        return 0
    bleu = BLEU(tokenize=bleu_tokenizer(target_lang), effective_order=True)
    scores = [bleu.sentence_score(each, [reference]).score for each in hypotheses]
    return scores.index(max(scores))


def sentence_chrf(hypotheses: Sequence[str], references: References) -> list[float]:
    """Return chrF2 of each sentence."""
    chrf = CHRF()
    rows = zip(hypotheses, *references, strict=True)
    return [chrf.sentence_score(said, wanted).score for said, *wanted in rows]


def _corpus_score(metric: Metric, hypotheses: Sequence[str], references: References) -> float:
    return float(metric.corpus_score(list(hypotheses), list(map(list, references))).score)


def compare(
    hypotheses: Sequence[str],
    baseline: Sequence[str],
    references: References,
    target_lang: str,
    metrics: Sequence[str] = DEFAULT_METRICS,
) -> list[PairedScore]:
    """Return the scores of two outputs, all but TER, with p-values from paired bootstrap.

    Koehn 2004: the probability that the difference is due to the choice of sentences alone.
    """
    streams = list(map(list, references))
    systems: list[tuple[str, Sequence[str]]] = [
        ("baseline", list(baseline)),
        ("system", list(hypotheses)),
    ]
    paired = []
    for title, make in (METRICS[name] for name in metrics if name != ERROR_RATE):
        metric = make(target_lang, references=streams)
        # one at a time: sacrebleu tells metrics apart by BLEU, chrF2 and the like alone
        test = PairedTest(
            systems, {title: metric}, None, test_type="bs", n_samples=BOOTSTRAP_SAMPLES
        )
        signatures, results = test()
        ((name, signature),) = signatures.items()
        first, second = results[name]
        assert isinstance(first, Result)
        assert isinstance(second, Result)
        assert second.p_value is not None
        # if no sample has a difference, sacrebleu counts no sample as evidence against: p is near 0
        p_value = second.p_value if second.score != first.score else 1.0
        paired.append(PairedScore(title, second.score, first.score, p_value, str(signature)))
    return paired

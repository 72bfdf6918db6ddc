"""Test sets of a run, or of sacreBLEU: translate each and score it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from mtrain.commands.health import facts_of
from mtrain.config import Config
from mtrain.config.corpora import Languages
from mtrain.console import progress, say, warn
from mtrain.data.held_out_text import HeldOutText
from mtrain.evaluation.measures import Measures
from mtrain.evaluation.metrics import DEFAULT_METRICS, ERROR_RATE
from mtrain.evaluation.scored import ScoredSet, SetTexts, score_set
from mtrain.evaluation.test_sets import read_test_set
from mtrain.inference.directions import require_direction
from mtrain.text.languages import find_language
from mtrain.text.lines import count_invalid, decode_lines, warn_of_invalid

if TYPE_CHECKING:
    from mtrain.decoding.documents import DocumentTranslator
    from mtrain.decoding.translator import Translator


@dataclass(frozen=True)
class ToTranslate:
    """A set to translate and score."""

    texts: SetTexts
    lines: Sequence[bytes]  # the sources, undecoded
    documents: list[int] | None = None  # the number of each line's document, if it has documents


def own_tests(
    tests: Sequence[HeldOutText], config: Config, metrics: Sequence[str] = DEFAULT_METRICS
) -> list[ToTranslate]:
    """Return a run's own test sets."""
    found = []
    for test in tests:
        for lines in (test.sources, test.references):
            warn_of_invalid(test.name, count_invalid(lines))
        sources, references = map(decode_lines, (test.sources, test.references))
        languages = config.data.test_languages[test.name]
        texts = SetTexts(test.name, languages, sources, [references], metrics=metrics)
        found.append(ToTranslate(texts, test.sources, test.documents))
    return found


def sacrebleu_tests(measures: Measures, config: Config) -> list[ToTranslate]:
    """Return sacreBLEU's test sets that are asked for, in a run's codes of their languages.

    Raises UserError for one that is not on disk, or that the run does not translate.
    """
    found = []
    for texts in map(read_test_set, dict.fromkeys(measures.test_sets)):
        languages = require_direction(config, texts.languages, f"--test-set {texts.name}")
        lines = [source.encode() for source in texts.sources or []]
        found.append(
            ToTranslate(replace(texts, languages=languages, metrics=measures.metrics), lines)
        )
    return found


def score_tests(
    translator_for: "Callable[[Languages], Translator]",
    tests: Sequence[ToTranslate],
    document_translator_for: "Callable[[Languages], DocumentTranslator] | None" = None,
    before: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[ScoredSet]:
    """Translate test sets and score each; `translator_for` returns one for two languages.

    Sets that have documents are translated with their context, given a translator for it. `before`
    are a baseline's hypotheses by the set's name.
    """
    scored = []
    for test in tests:
        name, languages = test.texts.name, test.texts.languages
        warn_of_ter(test.texts)
        with progress(f"translating {name}", len(test.lines), "lines") as shown:
            if document_translator_for is None or test.documents is None:
                translations = translator_for(languages).translate(test.lines, shown.advance)
            else:
                translations = document_translator_for(languages).translate(
                    test.lines, test.documents, shown.advance
                )
                num_alone = sum(each.is_from_mismatch for each in translations)
                say(f"{name}: documents translated chunk by chunk, {num_alone} lines alone "
                    "because their chunk did not come back whole")  # fmt: skip
        texts = replace(
            test.texts,
            hypotheses=[translation.text for translation in translations],
            facts=list(map(facts_of, translations)),
        )
        scored.append(score_set(texts, before.get(name)))
    return scored


def warn_of_ter(texts: SetTexts) -> None:
    """Warn where TER counts other words than a reader."""
    language = find_language(texts.languages[1])
    if ERROR_RATE in texts.metrics and not (language.is_spaced or language.is_han):
        warn(
            f"{texts.languages[1]}: TER splits Chinese characters only; it counts what stands "
            "between spaces or punctuation as one word, so trust BLEU and chrF"
        )

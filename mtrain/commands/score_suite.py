"""`mtrain score --suite`: translates the cases of a behaviour suite and judges them."""

from typing import TYPE_CHECKING

from mtrain.commands.health import facts_of
from mtrain.config.suite import Suite
from mtrain.evaluation.suite import SuiteResult, judge_suite

if TYPE_CHECKING:
    from mtrain.decoding.translator import Translator


def run_suite(suite: Suite, translator: "Translator") -> SuiteResult:
    """Translate the cases of a suite and judge them."""
    sources = [case.expected.source.encode() for case in suite.cases]
    translations = translator.translate(sources)
    return judge_suite(suite, [(each.text, facts_of(each)) for each in translations])

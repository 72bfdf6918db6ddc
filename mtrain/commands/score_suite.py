"""`mtrain score --suite`: translates the cases of a behaviour suite and judges them."""

from typing import TYPE_CHECKING

from mtrain.commands.health import facts_of
from mtrain.config import Config
from mtrain.config.corpora import Languages
from mtrain.config.suite import Suite
from mtrain.errors import UserError
from mtrain.evaluation.suite import SuiteResult, judge_suite
from mtrain.inference.directions import direction_of

if TYPE_CHECKING:
    from mtrain.decoding.translator import Translator


def direction_of_suite(suite: Suite, config: Config) -> Languages:
    """Return the direction of a suite in a run's codes. Raises UserError if the run lacks it."""
    languages = direction_of(config, suite.languages)
    if languages is None:
        known = ", ".join("-".join(each) for each in config.data.directions)
        raise UserError(
            f"{suite.path}: this suite is for {'-'.join(suite.languages)}, and {config.run_dir} "
            f"translates {known}",
            "name a suite of the same languages",
        )
    return languages


def run_suite(suite: Suite, translator: "Translator") -> SuiteResult:
    """Translate the cases of a suite and judge them."""
    sources = [case.expected.source.encode() for case in suite.cases]
    translations = translator.translate(sources)
    return judge_suite(suite, [(each.text, facts_of(each)) for each in translations])

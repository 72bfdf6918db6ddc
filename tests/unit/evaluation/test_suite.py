"""What fails a case of a behaviour suite, whatever model translated it."""

from pathlib import Path

import pytest

from mtrain.config.suite import Case, Expectations, Suite
from mtrain.evaluation.health import Facts
from mtrain.evaluation.suite import judge_suite

ORDINARY = Facts()


def reasons(output: str, target_lang: str = "de", facts: Facts = ORDINARY, **keys: object) -> str:
    expected = Expectations.model_validate({"source": "A dog.", **keys})
    suite = Suite(Path("s.yaml"), ("en", target_lang), (Case("a", "s.yaml:1", expected),))
    result = judge_suite(suite, [(output, facts)])
    assert result.passed + len(result.failed) == result.total == 1
    return "; ".join(result.failed[0].reasons) if result.failed else ""


@pytest.mark.parametrize(
    ("output", "keys", "wanted"),
    [
        ("Ein Hund.", {}, ""),
        ("", {}, "empty"),
        ("Hund Hund Hund", {}, "repeated"),
        ("Ein 犬", {}, "wrong_script"),
        ("A dog.", {}, ""),  # a case may be there to be copied
        ("5 Hunde", {"keeps": ["5"]}, ""),
        ("15 Hunde, 5.", {"keeps": ["5"]}, ""),
        ("15 Hunde, 50.", {"keeps": ["5"]}, "lacks '5'"),
        ("1.250 Euro", {"keeps": ["250"]}, "lacks '250'"),
        ("25,5 Euro", {"keeps": ["25"]}, "lacks '25'"),
        ("Um 25. Oder 7, 25.", {"keeps": ["25"]}, ""),
        ("{NAME} (a)", {"keeps": ["{name}", "(", ")"]}, "lacks '{name}'"),
        ("Ein Hund.", {"equals": "Ein Hund."}, ""),
        ("Ein Hund", {"equals": "Ein Hund."}, "is not 'Ein Hund.'"),
        ("Ein Hund.", {"matches": "[Hh]und"}, ""),
        ("Ein Hund.", {"matches": "^Hund"}, "does not match '^Hund'"),
        ("Ein Hund.", {"max_words": 2}, ""),
        ("Ein Hund.", {"max_words": 1, "keeps": ["x"]}, "lacks 'x'; has 2 words, more than 1"),
    ],
)
def test_a_case_fails_for_each_reason(output: str, keys: dict[str, object], wanted: str) -> None:
    assert reasons(output, **keys) == wanted


def test_the_search_and_the_language_count() -> None:
    assert reasons("Ein Hund", facts=Facts(is_cut_off=True)) == "cut_off"
    assert reasons("一只狗", "zh", max_words=2) == "has 3 characters, more than 2"

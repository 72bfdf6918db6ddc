"""`mtrain score`: health beside the scores, `--fail-on` as a gate, and behaviour suites."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from mtrain.evaluation.health import STATUSES
from tests.cli.warm import WarmCommandLine
from tests.conftest import Finished, succeed

FILES = ("score", "--hypotheses", "out", "--references", "ref", "--target-lang", "de")
WITH_SOURCES = (*FILES, "--sources", "src")
# source, output, reference
LINES = [
    ("A dog runs in the park.", "Ein Hund läuft im Park.", "Ein Hund läuft im Park."),
    ("It costs 25 euros.", "Es kostet Euro.", "Es kostet 25 Euro."),
    ("A cat sleeps on the sofa.", "Katze Katze Katze Katze.", "Eine Katze schläft auf dem Sofa."),
    ("Two men are talking.", "Two men are talking.", "Zwei Männer reden."),
    (
        "Hello {name}, how are you today, my friend?",
        "Hallo, 朋友",
        "Hallo {name}, wie geht es dir?",
    ),
    ("open source software", "Open source software", "Open-Source-Software"),
    ("It is late.", "", "Es ist spät."),
]
FOUND = {"empty": 1, "repeated": 1, "copied": 1, "wrong_script": 1, "number_lost": 1,
         "placeholder_lost": 1, "invalid_utf8": 1}  # fmt: skip

SUITE = """\
source_lang: digits
target_lang: words
cases:
  words:
    - {source: "3 9", equals: nine three}
    - {source: "4 5", matches: "^five fo", keeps: [four], max_words: 2}
  wrong:
    - {source: "1 2 3", keeps: ["3"], max_words: 2}
    - {source: "7 8", equals: eight seven}
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Files with one line of each problem, and two good ones; the last source is no UTF-8."""
    sources, outputs, references = zip(*LINES, strict=True)
    for name, lines in (("src", sources), ("out", outputs), ("ref", references)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "src").write_bytes((tmp_path / "src").read_bytes().replace(b"late", b"l\xe4te"))
    return tmp_path


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    (tmp_path / "suite.yaml").write_text(SUITE)
    return tmp_path / "suite.yaml"


def health_of(finished: Finished) -> dict[str, Any]:
    (entry,) = json.loads(finished.out)["sets"]
    health: dict[str, Any] = entry["health"]
    return health


def test_files_show_their_problems_by_name_line_and_source_length(
    warm: WarmCommandLine, files: Path
) -> None:
    scored = json.loads(succeed(warm, *WITH_SOURCES, "--json").out)["sets"][0]
    health = scored["health"]
    assert health["counts"].keys() == set(STATUSES)
    unknown = {"split": None, "cut_off": None}
    assert health["counts"] == {**FOUND, **unknown}
    assert (health["lines"], health["any"]) == (7, 5)
    assert (health["first_lines"]["copied"], health["first_lines"]["any"]) == (4, 2)
    assert sum(bucket["health"]["any"] for bucket in scored["by_length"]) == 5
    shown = succeed(warm, *WITH_SOURCES).out
    (line,) = [line for line in shown.split("\n") if line.startswith("  health")]
    assert f"length ratio {health['length_ratio']:.3f}; empty 1 (14.3%, first in line 7)" in line
    assert line.endswith("; not judged: split, cut_off")
    by_length = shown.split("length ratio  problems\n")[1].split("\n")
    assert by_length[0].endswith("  empty 1, copied 1, number_lost 1, invalid_utf8 1")
    assert by_length[1].endswith("  repeated 1, wrong_script 1, placeholder_lost 1")


def test_without_sources_it_judges_what_it_can_and_says_so(
    warm: WarmCommandLine, files: Path
) -> None:
    counts = health_of(succeed(warm, *FILES, "--json"))["counts"]
    assert {name: count for name, count in counts.items() if count} == {
        "empty": 1, "repeated": 1, "wrong_script": 1}  # fmt: skip
    assert [name for name, count in counts.items() if count is None] == [
        "split", "cut_off", "copied", "number_lost", "placeholder_lost"]  # fmt: skip
    (files / "out").write_bytes((files / "ref").read_bytes())
    assert "health  length ratio 1.000; no problems; not judged: split" in succeed(warm, *FILES).out


def test_fail_on_is_a_gate_that_names_what_is_too_much(warm: WarmCommandLine, files: Path) -> None:
    passes = ("--fail-on", "repeated=1", "--fail-on", "empty=15%", "--fail-on", "any=5")
    succeed(warm, *WITH_SOURCES, *passes)
    report = ("--junit", "report.xml", "--markdown", "comment.md")
    failed = warm(*WITH_SOURCES, *passes, "--fail-on", "copied=0", "--fail-on", "any=70%", *report)
    assert failed.code == 1
    assert "out: copied 1 (14.3%, first in line 4) of 7 lines, more than --fail-on copied=0" in (
        failed.err
    )
    assert "out: any 5 (71.4%, first in line 2) of 7 lines, more than --fail-on any=70%" in (
        failed.err
    )
    assert "repeated" not in failed.err
    assert "BLEU" in failed.out
    (case,) = ElementTree.parse(files / "report.xml").getroot()
    assert "copied 1" in str(case[0].get("message"))
    assert "Health: length ratio " in (files / "comment.md").read_text()


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        ("repeatd=1%", "--fail-on repeatd=1%: there is no repeatd; did you mean repeated?"),
        ("=1", "--fail-on =1: there is no name"),
        ("empty", "--fail-on empty: nothing is neither a whole number nor a percentage"),
        ("empty=1.5", "1.5 is neither a whole number nor a percentage"),
        ("empty=-1", "-1 is neither"),
        ("empty=nan%", "nan% is neither"),
        ("empty=101%", "101% is over 100%"),
        ("suite=1", "--fail-on suite=1: it limits the failed cases of --suite"),
        ("cut_off=0", "--fail-on cut_off=0: only a search knows it"),
        ("copied=0", "--fail-on copied=0: it needs --sources"),
    ],
)
def test_a_limit_that_cannot_be_read_or_judged_is_refused_by_name(
    warm: WarmCommandLine, limit: str, wanted: str
) -> None:
    refused = warm(*FILES, "--fail-on", limit)
    assert refused.code == 2
    assert wanted in refused.err
    assert "no such file" not in refused.err


def test_a_run_is_judged_by_its_search_too(trained: WarmCommandLine) -> None:
    healthy = health_of(succeed(trained, "score", "run", "--json", "--fail-on", "any=10%"))
    assert None not in healthy["counts"].values()
    short = ("score", "run", "--json", "--set", "decoding.max_length_ratio=0.001",
             "--set", "decoding.method=sample", "--set", "decoding.temperature=1000")  # fmt: skip
    failed = trained(*short, "--fail-on", "cut_off=1%")
    assert failed.code == 1
    assert health_of(failed)["counts"]["cut_off"] > 30
    assert "held-out: cut_off " in failed.err


def test_a_suite_shows_groups_and_failed_cases_and_is_a_gate(
    trained: WarmCommandLine, suite: Path
) -> None:
    command = ("score", "run", "--suite", suite)
    report = ("--junit", suite.parent / "report.xml", "--markdown", suite.parent / "comment.md")
    failed = trained(*command, *report)
    assert failed.code == 1
    assert f"{suite}: 1 of 4 cases failed, more than --fail-on suite=0 allows" in failed.err
    shown = failed.out.split(f"{suite}, digits-words: 3 of 4 cases passed\n")[1].split("\n")
    assert shown[:2] == ["  words    2 of 2", "  wrong    1 of 2"]
    assert shown[2] == (f"  {suite}:8: wrong failed: lacks '3'; has 3 words, more than 2")
    assert shown[3:5] == ["    source  1 2 3", "    output  three two one"]
    cases = ElementTree.parse(suite.parent / "report.xml").getroot()
    assert [case.get("name") for case in cases] == ["held-out", f"suite {suite}"]
    assert [case.find("failure") is not None for case in cases] == [False, True]
    assert "| <code>wrong</code> | 1 | 2 |" in (suite.parent / "comment.md").read_text()

    allowed = succeed(trained, *command, "--fail-on", "suite=25%", "--json")
    told = json.loads(allowed.out)["suite"]
    assert (told["passed"], told["total"]) == (3, 4)
    assert told["groups"][1] == {"name": "wrong", "passed": 1, "total": 2}
    (case,) = told["failed"]
    assert (case["group"], case["output"]) == ("wrong", "three two one")
    assert case["reasons"] == ["lacks '3'", "has 3 words, more than 2"]
    assert trained(*command, "--fail-on", "suite=24%").code == 1


def test_a_run_without_test_sets_can_be_asked_for_a_suite_alone(
    trained: WarmCommandLine, suite: Path
) -> None:
    alone = ("score", "run", "--set", "data.test=[]", "--suite", suite, "--fail-on", "suite=1")
    answer = json.loads(succeed(trained, *alone, "--json").out)
    assert (answer["sets"], answer["suite"]["passed"]) == ([], 3)
    assert succeed(trained, *alone).out.startswith(f"{suite}, digits-words: 3 of 4 cases passed\n")
    for more in (("--fail-under", 1), ("--fail-on", "any=1"), ("--save-baseline", "base.json")):
        refused = trained(*alone, *more)
        assert refused.code == 2
        assert "run: this run has no test set" in refused.err


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("equals: nine", "equal: nine", "suite.yaml:5: unknown key cases.words.0.equal; did you"),
        (
            "equals: nine three",
            "equals: 3",
            "suite.yaml:5: cases.words.0.equals: input should be a",
        ),
        ("equals: nine three}", "equals: nine", "suite.yaml:6: not YAML: "),
        ('"^five fo"', '"("', "suite.yaml:6: cases.words.1.matches: ( is not a regular expression"),
        ('"1 2 3"', '"1\\n2"', "suite.yaml:8: cases.wrong.0.source: a source is one line"),
        ('source: "7 8", ', "", "suite.yaml:9: cases.wrong.1.source is missing"),
        ("  words:\n", "  words: []\n  w:\n", "suite.yaml:4: cases.words: there is no case here"),
        ("target_lang: words", "target_lang: digits", "is for digits-digits, and run translates"),
    ],
)
def test_a_broken_suite_is_refused_with_its_line_before_a_model_is_loaded(
    trained: WarmCommandLine, suite: Path, old: str, new: str, wanted: str
) -> None:
    assert old in SUITE
    suite.write_text(SUITE.replace(old, new, 1))
    refused = trained("score", "run", "--suite", suite)
    assert refused.code == 2
    assert wanted in refused.err
    assert "using run" not in refused.err
    assert refused.out == ""


def test_a_suite_belongs_to_a_run_and_must_exist(warm: WarmCommandLine, files: Path) -> None:
    refused = warm(*FILES, "--suite", "suite.yaml")
    assert refused.code == 2
    assert "--suite belongs to a run" in refused.err
    refused = warm("score", "run", "--suite", "nowhere.yaml")
    assert "nowhere.yaml: there is no such suite file" in refused.err

"""`mtrain score` in a CI: a saved baseline, what passes, fails and is refused; the reports."""

import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.cli.warm import WarmCommandLine
from tests.conftest import succeed, write_task

FILES = ("score", "--hypotheses", "out", "--references", "ref", "--sources", "src")
AGAINST = (*FILES, "--against", "base.json")
STRANGE = "<b>|`@you` \x1b[31m\x00 & ]]> \u2028 \ufffe"


@pytest.fixture
def files(warm: WarmCommandLine, tmp_path: Path) -> Path:
    """A baseline of a perfect output, `out`; and `bad`, whose even lines are turned round."""
    write_task(tmp_path, {"test": 60})
    lines = (tmp_path / "test.words").read_text().split("\n")[:-1]
    bad = [" ".join(line.split()[::-1]) if number % 2 else line
           for number, line in enumerate(lines)]  # fmt: skip
    bad[7] = f"zero {STRANGE}"
    for name, texts in (("ref", lines), ("out", lines), ("bad", bad)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in texts))
    (tmp_path / "test.digits").rename(tmp_path / "src")
    succeed(warm, *FILES, "--save-baseline", "base.json")
    return tmp_path


def test_a_run_passes_against_itself_and_fails_once_its_search_is_worse(
    trained: WarmCommandLine, tmp_path: Path
) -> None:
    base, comment = tmp_path / "base.json", tmp_path / "comment.md"
    succeed(trained, "score", "run", "--save-baseline", base)
    saved = json.loads(base.read_text())
    assert saved["format"] == 1
    (entry,) = saved["sets"]
    assert (entry["name"], entry["direction"]) == ("held-out", "digits-words")
    assert len(entry["hypotheses"]) == 60
    assert len({entry["sources"], *entry["references"]}) == 2

    against = ("score", "run", "--against", base, "--json")
    (same,) = json.loads(succeed(trained, *against).out)["sets"]
    assert [(each["name"], each["value"] - each["baseline"], each["p_value"])
            for each in same["comparison"]] == [("BLEU", 0, 1), ("chrF2", 0, 1)]  # fmt: skip
    assert same["worse"] == []
    assert "texts" not in same

    hot = (*against, "--set", "decoding.method=sample", "--set", "decoding.temperature=2",
           "--markdown", comment)  # fmt: skip
    failed = trained(*hot)
    assert failed.code == 1, failed.err
    (worse,) = json.loads(failed.out)["sets"]
    bleu = worse["comparison"][0]
    drop = bleu["baseline"] - bleu["value"]
    assert f"error: held-out: BLEU {bleu['value']:.2f} is {drop:.2f} lower than" in failed.err
    assert len(worse["worse"]) == 5
    first = worse["worse"][0]
    assert first["before"] == entry["hypotheses"][first["line"] - 1] != first["now"]
    assert first["score_before"] > first["score_now"]
    assert set(first["source"]) <= set("0123456789 ")
    assert f"| BLEU | {bleu['baseline']:.2f} | {bleu['value']:.2f} | -{drop:.2f} |" in (
        comment.read_text()
    )
    assert succeed(trained, *hot, "--max-drop", drop + 0.01).out  # a drop that is allowed


def test_worse_files_fail_name_sentences_and_leave_the_baseline(
    warm: WarmCommandLine, files: Path
) -> None:
    before = (files / "base.json").read_bytes()
    (files / "out").write_bytes((files / "bad").read_bytes())
    failed = warm(*AGAINST, "--save-baseline", "base.json")
    assert failed.code == 1
    assert "out: BLEU" in failed.err
    assert (files / "base.json").read_bytes() == before
    sources = (files / "src").read_text().split("\n")
    shown = failed.out.split("sentences that got worse most, by chrF2\n")[1].split("\n")
    assert shown[0].startswith("  line 8: 100.00 before, ")
    assert shown[1] == f"    source    {sources[7]}"
    assert [line.split()[0] for line in shown[2:5]] == ["reference", "before", "now"]
    assert "\x1b" not in failed.out
    drop = float(failed.err.split(" is ")[1].split()[0])
    for allowed in (("--max-drop", drop + 0.1), ("--max-drop", drop - 0.1, "--p", 0.001)):
        assert warm(*AGAINST, *allowed).code == (1 if "--p" in allowed else 0)
    succeed(warm, *AGAINST, "--max-drop", 100, "--save-baseline", "base.json")
    assert (files / "base.json").read_bytes() != before
    assert "against" in succeed(warm, *AGAINST).out  # itself by now


def test_a_drop_that_chance_explains_passes(warm: WarmCommandLine, files: Path) -> None:
    lines = (files / "out").read_text().split("\n")
    (files / "out").write_text("\n".join([lines[0] + " nine", *lines[1:]]))
    (paired, _) = json.loads(succeed(warm, *AGAINST, "--json").out)["sets"][0]["comparison"]
    assert paired["value"] < paired["baseline"]
    assert paired["p_value"] > 0.05
    assert warm(*AGAINST, "--p", 1).code == 1


def test_the_reports_hold_any_text_also_of_a_gate_that_fails(
    warm: WarmCommandLine, files: Path
) -> None:
    (files / "out").write_bytes((files / "bad").read_bytes())
    reports = ("--junit", "report.xml", "--markdown", "comment.md")
    assert warm(*AGAINST, *reports, "--fail-under", 99).code == 1
    suite = ElementTree.parse(files / "report.xml").getroot()
    assert suite.tag == "testsuite"
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    (case,) = suite
    assert (case.get("classname"), case.get("name")) == ("files", "out")
    assert [child.tag for child in case] == ["failure", "system-out"]
    assert "is under 99; out: BLEU" in str(case[0].get("message"))
    assert "<b>|`@you`" in str(case[0].text)
    assert "tok:13a" in str(case[1].text)

    comment = (files / "comment.md").read_text()
    assert "## mtrain score: failed" in comment
    table = [line for line in comment.split("\n") if line.startswith("| ")]
    assert table[0] == "| score | before | now | difference | p | signature |"
    assert [line.split(" | ")[0] for line in table[2:]] == ["| BLEU", "| chrF2", "| TER"]
    assert "nrefs:1\\|case:mixed" in table[2]
    folded = comment.split("<details>")[1].split("</details>")[0]
    assert html.escape("<b>|`@you`", quote=False) in folded
    assert not any(odd in comment for odd in ("<b>", "\x1b", "\x00", "\ufffe"))

    succeed(warm, *FILES, *reports)
    suite = ElementTree.parse(files / "report.xml").getroot()
    assert [child.tag for child in suite[0]] == ["system-out"]
    assert "| score | now | signature |" in (files / "comment.md").read_text()


# -- what is refused -------------------------------------------------------------------------------


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """Return what changes the content of a baseline."""

    def apply(content: bytes) -> bytes:
        found = json.loads(content)
        change(found)
        return json.dumps(found).encode()

    return apply


# what becomes of the baseline, and what the message must hold
UNFIT: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut short": (lambda content: content[:-20], "it is not JSON, or is cut short"),
    "half a character": (lambda content: content.replace(b'"zero', b'"\\ud800 zero', 1),
                         "Invalid JSON: "),
    "no text": (lambda _: b"\xff{}", "it is not JSON"),
    "scores": (lambda _: b'{"sets": []}', "it has no format number"),
    "later format": (changed(lambda base: base.update(format=2)), "a baseline of format 2"),
    "a part is missing": (changed(lambda base: base["sets"][0].pop("scores")), "0: scores: Field"),
    "more sets": (changed(lambda base: base["sets"].append(base["sets"][0] | {"name": "more"})),
                  "it has a set more, which is not scored now"),
    "other sources": (changed(lambda base: base["sets"][0].update(sources="0")),
                      "out: the sources are others now"),
    "other references": (changed(lambda base: base["sets"][0].update(references=["0"])),
                         "out: the references are others now"),
    "a line is missing": (changed(lambda base: base["sets"][0]["hypotheses"].pop()),
                          "it has 59 hypotheses for 60 lines"),
    "other metric": (lambda content: content.replace(b"tok:13a", b"tok:zh"),
                     "out: BLEU was computed with nrefs:1|case:mixed|eff:no|tok:zh"),
}  # fmt: skip


def test_a_baseline_that_does_not_fit_is_refused_by_name(
    warm: WarmCommandLine, files: Path
) -> None:
    content = (files / "base.json").read_bytes()
    for name, (change, wanted) in UNFIT.items():
        (files / "base.json").write_bytes(change(content))
        refused = warm(*AGAINST, "--save-baseline", "base.json", "--junit", "report.xml")
        assert refused.code == 2, name
        assert "error: base.json: " in refused.err, name
        assert wanted in refused.err, name
        assert "--save-baseline base.json" in refused.err.split("\n", 1)[1]
        assert refused.out == ""
        assert (files / "base.json").read_bytes() == change(content)
        assert not (files / "report.xml").exists()
    (files / "base.json").write_bytes(content.replace(b"version:", b"version:0."))
    succeed(warm, *AGAINST)  # both are scored anew


def test_a_run_refuses_the_baseline_of_another_set_before_its_model_is_loaded(
    warm: WarmCommandLine, trained: WarmCommandLine, files: Path
) -> None:
    refused = trained("score", "run", "--against", files / "base.json")
    assert refused.code == 2
    assert "there is no set held-out in it" in refused.err
    assert "it has a set out, which is not scored now" in refused.err


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--against", "nowhere"), "nowhere: there is no such file"),
        (("--max-drop", 1), "--max-drop and --p belong to --against"),
        (("--p", 0.1), "--max-drop and --p belong to --against"),
        (("--against", "x", "--max-drop", "nan"), "--max-drop: nan is not a finite"),
        (("--against", "x", "--max-drop", "inf"), "--max-drop: inf is not a finite"),
        (("--against", "x", "--max-drop", -1), "--max-drop: -1.0 is not a finite"),
        (("--against", "x", "--p", 0), "--p: 0.0 is not between 0.0010"),
        (("--against", "x", "--p", 1.5), "--p: 1.5 is not between"),
        (("--against", "x", "--p", "nan"), "--p: nan is not between"),
        (("--junit", "x", "--markdown", "./x"), "--junit and --markdown name the same file"),
        (("--junit", "-"), "--junit: - is no file"),
        (("--markdown", "nowhere/x"), "there is no folder"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_read(
    warm: WarmCommandLine, options: tuple[object, ...], wanted: str
) -> None:
    refused = warm("score", "nowhere-either", *options)
    assert refused.code == 2
    assert wanted in refused.err
    assert refused.out == ""

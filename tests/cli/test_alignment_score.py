"""`mtrain score --alignments`: the error rate of files, what fits no sentence, what goes wrong."""

import json
from pathlib import Path

import pytest

from tests.cli.warm import WarmCommandLine
from tests.conftest import CommandLine, succeed

FILES = ("score", "--alignments", "out", "--gold-alignments", "gold")
TEXTS = ("--sources", "src", "--references", "ref")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two sentence pairs, their links, and an output that has one right link in three."""
    contents = {
        "src": "a b c\nd e\n",
        "ref": "A B\nD E F\n",
        "gold": "0-0 1-1 2p1\n0-0 1-2\n",
        "out": "0-0 2-1\n1-0\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def test_the_figures_are_those_by_hand(warm: WarmCommandLine, files: Path) -> None:
    scored = json.loads(succeed(warm, *FILES, *TEXTS, "--json").out)
    counts = {"sentences": 2, "links": 3, "sure_links": 4, "links_possible": 2, "links_sure": 1}
    assert scored == {
        "name": "out",
        "aer": pytest.approx(1 - 3 / 7),
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(1 / 4),
        **counts,
    }
    text = succeed(warm, *FILES, *TEXTS)
    assert text.out.split("\n")[:2] == ["out, 2 sentences", "  AER       0.5714"]
    assert "2 of 3" in text.out
    assert "1 of 4" in text.out
    assert text.err == ""


def test_a_gold_that_counts_from_1_scores_the_same(warm: WarmCommandLine, files: Path) -> None:
    wanted = succeed(warm, *FILES).out
    (files / "gold").write_text("1-1 2-2 3p2\n1-1 2-3\n")
    assert succeed(warm, *FILES, *TEXTS, "--gold-first-index", 1).out == wanted
    unsaid = succeed(warm, *FILES)
    assert unsaid.out != wanted
    assert "gold: no link has a word 0" in unsaid.err
    assert "--gold-first-index 1" in unsaid.err


def test_a_gold_that_counts_from_0_is_none_that_counts_from_1(
    warm: WarmCommandLine, files: Path
) -> None:
    finished = warm(*FILES, "--gold-first-index", 1)
    assert finished.code == 2
    assert "gold:1: the link 0-0" in finished.err
    assert "from 1 or from 0" in finished.err


def test_a_gold_link_outside_its_sentences_is_told_and_counted(
    warm: WarmCommandLine, files: Path
) -> None:
    (files / "gold").write_text("0-0 1-1 2p1\n0-0 1-2 1-3\n")
    finished = succeed(warm, *FILES, *TEXTS, "--json")
    assert "warning: gold:2: the link 1-3 points outside its sentence pair" in finished.err
    assert "2 and 3 words" in finished.err
    assert json.loads(finished.out)["sure_links"] == 5


def test_a_link_is_told_as_the_gold_file_has_it(warm: WarmCommandLine, files: Path) -> None:
    (files / "gold").write_text("1-1 4-1\n1-1\n")
    finished = succeed(warm, *FILES, *TEXTS, "--gold-first-index", 1)
    assert "gold:1: the link 4-1 points outside" in finished.err


def test_many_gold_links_outside_are_a_few_lines(warm: WarmCommandLine, files: Path) -> None:
    (files / "gold").write_text("0-0\n" + " ".join(f"0-{place}" for place in range(3, 60)) + "\n")
    finished = succeed(warm, *FILES, *TEXTS)
    assert finished.err.count("\n") < 8
    assert "52 more such links" in finished.err


@pytest.mark.parametrize("link", ["2-0", "0-3"])
def test_an_output_that_does_not_fit_is_refused_with_its_line(
    warm: WarmCommandLine, files: Path, link: str
) -> None:
    (files / "out").write_text(f"2-1\n1-2 {link}\n")
    succeed(warm, *FILES)
    finished = warm(*FILES, *TEXTS)
    assert finished.code == 2
    assert f"out:2: the link {link} points outside its sentence pair" in finished.err
    assert "2 and 3 words" in finished.err
    assert finished.out == ""


@pytest.mark.parametrize(("name", "line"), [("out", "0-0 1:1"), ("gold", "0-0 1:1")])
def test_what_is_no_link_is_refused_with_its_line(
    warm: WarmCommandLine, files: Path, name: str, line: str
) -> None:
    (files / name).write_text(f"0-0\n{line}\n")
    finished = warm(*FILES)
    assert finished.code == 2
    assert f"{name}:2: '1:1' is not a link" in finished.err


def test_an_output_is_sure_of_its_links(warm: WarmCommandLine, files: Path) -> None:
    (files / "out").write_text("0-0\n0-0 1p2\n")
    finished = warm(*FILES)
    assert finished.code == 2
    assert "out:2: 1p2 is a possible link" in finished.err


@pytest.mark.parametrize("name", ["out", "src", "ref"])
def test_unequal_files_are_refused_with_both_counts(
    warm: WarmCommandLine, files: Path, name: str
) -> None:
    with (files / name).open("a") as file:
        file.write("\n")
    finished = warm(*FILES, *TEXTS)
    assert finished.code == 2
    assert f"{name} has 3 lines but gold has 2" in finished.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((*FILES[:3],), "--alignments and --gold-alignments go together"),
        (("score", *FILES[3:]), "--alignments and --gold-alignments go together"),
        ((*FILES, "--sources", "src"), "so do --sources and --references"),
        ((*FILES, "--references", "ref"), "so do --sources and --references"),
        ((*FILES, "--hypotheses", "ref"), "--hypotheses cannot be combined with --alignments"),
        ((*FILES, "--fail-under", "0"), "--fail-under cannot be combined with --alignments"),
        (("score", "run", *FILES[1:], "--baseline", "ref"), "a run, --baseline cannot be combined"),
        ((*FILES, "--set", "seed=1"), "--set cannot be combined with --alignments"),
        ((*FILES, "--gold-first-index", "2"), "--gold-first-index"),
        (("score", "--alignments", "no", "--gold-alignments", "gold"), "no: there is no such file"),
    ],
)
def test_what_does_not_go_together_is_named(
    warm: WarmCommandLine, files: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    finished = warm(*arguments)
    assert finished.code == 2
    assert complaint in finished.err
    assert "Traceback" not in finished.err


def test_no_line_is_nothing_to_score(warm: WarmCommandLine, files: Path) -> None:
    for name in ("out", "gold"):
        (files / name).write_text("")
    assert "there is not one line to score" in warm(*FILES).err


def test_it_needs_no_torch(mtrain: CommandLine, files: Path) -> None:
    (files / "torch.py").write_text("raise ImportError('torch was imported')")
    succeed(mtrain, *FILES, *TEXTS)

"""`--with RUN`: several runs translate together, or are refused by name."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.warm import WarmCommandLine
from tests.conftest import every_line, succeed


@pytest.fixture
def other(trained_run: Path, tmp_path: Path) -> Path:
    """A copy of the trained run."""
    return shutil.copytree(trained_run, tmp_path / "other", ignore=shutil.ignore_patterns("data*"))


def test_runs_translate_and_are_scored_together(
    trained: WarmCommandLine, other: Path, tmp_path: Path
) -> None:
    best_two = ("test.digits", "--n-best", "2")
    alone = succeed(trained, "translate", "run", *best_two, "--alignments", tmp_path / "alone")
    together = succeed(
        trained, "translate", "run", *best_two, "--with", other, "--alignments", tmp_path / "both"
    )
    assert f"using {other}/checkpoints/" in together.err
    assert "averaging the probabilities of 2 models" in together.err
    assert (tmp_path / "both").read_text() == (tmp_path / "alone").read_text()
    for ours, theirs in zip(every_line(together.out), every_line(alone.out), strict=True):
        *same, score = ours.split(" ||| ")
        *wanted, wanted_score = theirs.split(" ||| ")
        assert same == wanted
        assert float(score) == pytest.approx(float(wanted_score), abs=2e-5)
    sets = [json.loads(succeed(trained, "score", "run", "--json", *given).out)["sets"]
            for given in ((), ("--with", other))]  # fmt: skip
    assert sets[0] == sets[1]
    earlier, *_ = sorted((other / "checkpoints").iterdir())
    for checkpoint in set((other / "checkpoints").iterdir()) - {earlier}:
        shutil.rmtree(checkpoint)
    mixed = succeed(trained, "translate", "run", *best_two, "--with", other)
    assert f"using {earlier} on" in mixed.err
    assert mixed.out != together.out


def test_checkpoints_of_one_run_translate_together(trained: WarmCommandLine, other: Path) -> None:
    earlier, *_ = sorted((other / "checkpoints").iterdir())
    best_two = ("test.digits", "--n-best", "2")
    found = [
        succeed(trained, "translate", *runs, *best_two)
        for runs in ((other, "--with", earlier), (earlier, "--with", other), (earlier,))
    ]
    assert f"using {earlier} on" in found[0].err
    assert "averaging the probabilities of 2 models" in found[0].err
    assert found[0].out == found[1].out != found[2].out
    named = ("--checkpoint", earlier.name)
    assert found[2].out == succeed(trained, "translate", other, *best_two, *named).out
    for twice in ((earlier, "--with", earlier), (other, *named, "--with", earlier)):
        refused = trained("translate", *twice, *best_two)
        assert refused.code == 2
        assert "is named twice, and its probabilities would count twice" in refused.err
    refused = trained("translate", earlier, "--checkpoint", "update-00000999", *best_two)
    assert refused.code == 2
    assert f"two checkpoints are named, {earlier.name} and update-00000999" in refused.err


def test_what_does_not_go_together_is_refused(trained: WarmCommandLine, other: Path) -> None:
    files = ("--hypotheses", "test.words", "--references", "test.words")
    for command, told in (
        (("translate", "run", "--with", "nothing"), "nothing: there is no such run folder"),
        (("translate", "run", "--with", "run"), "run: this run is named twice"),
        (
            ("translate", "run", "--with", other, "--engine", "ctranslate2"),
            f"CTranslate2 searches with one model, and these are 2: run, {other}",
        ),
        (("score", *files, "--with", other), "--with, --checkpoint and --set belong to a run"),
    ):
        refused = trained(*command)
        assert refused.code == 2
        assert told in refused.err
        assert "Traceback" not in refused.err

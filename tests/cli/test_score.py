"""`mtrain score` on files: sacreBLEU's figures, the gate, the comparison, lines in step."""

import json
import random
from pathlib import Path

import pytest
import sacrebleu

from tests.cli.warm import WarmCommandLine
from tests.conftest import CommandLine, succeed

FILES = ("score", "--hypotheses", "out.txt", "--references", "ref.txt", "--target-lang", "de")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """References, an output that drops a word of every second line, and a worse one."""
    generator = random.Random(1)
    words = [f"word{number}" for number in range(50)]
    references = [generator.choices(words, k=generator.randint(3, 25)) for _ in range(120)]
    good = [line[1:] if number % 2 else line for number, line in enumerate(references)]
    bad = [line[: len(line) // 2 + 1] for line in references]
    for name, lines in (("ref", references), ("out", good), ("old", bad), ("src", references)):
        text = "".join(" ".join(line) + "\n" for line in lines)
        (tmp_path / f"{name}.txt").write_text(text)
    return tmp_path


def test_the_figures_and_signatures_are_those_of_sacrebleu(
    warm: WarmCommandLine, files: Path
) -> None:
    scored = json.loads(succeed(warm, *FILES, "--json").out)["sets"][0]
    lines = [(files / name).read_text().split("\n")[:-1] for name in ("out.txt", "ref.txt")]
    wanted = {
        "BLEU": sacrebleu.corpus_bleu(lines[0], [lines[1]]).score,
        "chrF2": sacrebleu.corpus_chrf(lines[0], [lines[1]]).score,
        "TER": sacrebleu.corpus_ter(lines[0], [lines[1]]).score,
    }
    assert {entry["name"]: entry["value"] for entry in scored["scores"]} == wanted
    assert "tok:13a" in scored["scores"][0]["signature"]
    assert scored["sentences"] == 120


def test_the_gate_says_yes_or_no_by_its_exit_code_and_still_shows_the_score(
    warm: WarmCommandLine, files: Path
) -> None:
    bleu = json.loads(succeed(warm, *FILES, "--json").out)["sets"][0]["scores"][0]["value"]
    assert succeed(warm, *FILES, "--fail-under", bleu - 0.01).out
    failed = warm(*FILES, "--fail-under", bleu + 0.01)
    assert failed.code == 1
    assert f"{bleu:.2f}" in failed.out
    assert "is under" in failed.err


def test_a_comparison_tells_a_difference_from_none(warm: WarmCommandLine, files: Path) -> None:
    def p_value(baseline: str) -> float:
        finished = succeed(warm, *FILES, "--baseline", baseline, "--json")
        comparison = json.loads(finished.out)["sets"][0]["comparison"]
        assert [entry["name"] for entry in comparison] == ["BLEU", "chrF2"]
        return float(comparison[0]["p_value"])

    assert p_value("old.txt") < 0.01
    assert p_value("out.txt") > 0.5


def test_the_lengths_partition_the_sentences(warm: WarmCommandLine, files: Path) -> None:
    finished = succeed(warm, *FILES, "--sources", "src.txt", "--json")
    buckets = json.loads(finished.out)["sets"][0]["by_length"]
    assert sum(bucket["sentences"] for bucket in buckets) == 120
    assert len(buckets) > 3


@pytest.mark.parametrize("inside", ["\r", "\u2028", "\x85", "\x0b", "\x1c"])
def test_a_line_ends_at_its_newline_alone(warm: WarmCommandLine, files: Path, inside: str) -> None:
    whole = json.loads(succeed(warm, *FILES, "--json").out)["sets"][0]
    for name in ("out.txt", "ref.txt"):
        lines = (files / name).read_text().split("\n")
        lines[3] = f"strange {inside} line"
        (files / name).write_bytes("\n".join(lines).encode())
    scored = json.loads(succeed(warm, *FILES, "--json").out)["sets"][0]
    assert scored["sentences"] == whole["sentences"]
    assert scored["scores"][0]["value"] == pytest.approx(whole["scores"][0]["value"], abs=2)


def test_unequal_files_are_refused_with_both_counts(warm: WarmCommandLine, files: Path) -> None:
    with (files / "out.txt").open("a") as file:
        file.write("one more\n")
    finished = warm(*FILES)
    assert finished.code == 2
    assert "out.txt has 121 lines but ref.txt has 120" in finished.err


def test_it_needs_no_torch(mtrain: CommandLine, files: Path) -> None:
    (files / "torch.py").write_text("raise ImportError('torch was imported')")
    succeed(mtrain, *FILES)


def test_several_references_count_for_every_figure(warm: WarmCommandLine, files: Path) -> None:
    more = (*FILES, "--references", "out.txt", "--sources", "src.txt", "--baseline", "old.txt")
    scored = json.loads(succeed(warm, *more, "--json").out)["sets"][0]
    assert [round(entry["value"], 6) for entry in scored["scores"]] == [100, 100, 0]
    assert all("nrefs:2" in entry["signature"] for entry in scored["scores"] + scored["comparison"])
    assert all(bucket["length_ratio"] == 1 for bucket in scored["by_length"])
    (files / "short.txt").write_text("one line\n")
    finished = warm(*FILES, "--references", "short.txt")
    assert finished.code == 2
    assert "short.txt has 1 lines but ref.txt has 120" in finished.err


def test_ter_says_where_it_cannot_split_words(warm: WarmCommandLine, files: Path) -> None:
    told = {code: succeed(warm, *FILES[:-1], code).err for code in ("th", "zho_Hans", "de")}
    assert told["th"].count("warning: th: TER splits Chinese characters only") == 1
    assert not told["zho_Hans"] + told["de"]

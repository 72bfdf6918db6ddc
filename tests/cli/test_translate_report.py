"""`mtrain translate --report` and `--fail-on`: what is wrong with each line, and with too many."""

import json
import signal
from pathlib import Path

from tests.cli.warm import WarmCommandLine
from tests.conftest import succeed

# the small task turns digits into words, so that numbers over 12 are lost
LINES = (
    b"1 2 77",
    b"77 88",
    b"1 2 3 4 5 6 7 8 9 1 2 3 4 5 6 7 8 9 1 2 3 4 5 6 7 8 9",
    b"4 \xff 5",
    b"",
)


def reports(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_report_has_a_line_for_each_line_with_what_is_wrong(
    trained: WarmCommandLine, tmp_path: Path
) -> None:
    source, report, output = (tmp_path / name for name in ("in", "report.jsonl", "out"))
    source.write_bytes(b"".join(line + b"\n" for line in LINES))
    command = ("translate", "run", source, "--output", output, "--report", report)
    done = succeed(trained, *command)
    found = reports(report)
    assert [each["line"] for each in found] == [1, 2, 3, 4, 5]
    statuses = [each["status"] for each in found]
    assert statuses[4] == ["empty"]
    assert statuses[0] == statuses[1] == ["number_lost"]
    assert "invalid_utf8" in statuses[3]
    texts = output.read_text().splitlines()
    for text, each in zip(texts, found, strict=True):
        assert set(each) == {"line", "status", "score", "tokens"}
        assert bool(each["tokens"]) == bool(text)
    assert "number_lost 2 (40.0%, first in line 1)" in done.err
    assert "in: health: length ratio" in done.err

    stream = trained("translate", "run", "--report", report, stdin=LINES[0] + b"\n")
    assert (stream.code, stream.out.count("\n")) == (0, 1)
    assert len(reports(report)) == 1


def test_too_many_lines_with_a_problem_fail_after_the_output_is_written(
    trained: WarmCommandLine, tmp_path: Path
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"".join(line + b"\n" for line in LINES))
    command = ("translate", "run", source, "--output", output)
    failed = trained(*command, "--fail-on", "number_lost=1", "--fail-on", "invalid_utf8=20%")
    assert failed.code == 1
    assert "number_lost" in failed.err
    assert "more than --fail-on number_lost=1 allows" in failed.err
    assert "invalid_utf8=20%" not in failed.err
    assert output.read_bytes().count(b"\n") == 5
    succeed(trained, *command, "--fail-on", "number_lost=5")
    for wrong, told in (
        ("repeeted=1", "did you mean repeated?"),
        ("suite=1", "there is no suite"),
        ("empty=x", "neither a whole number nor a percentage"),
    ):
        refused = trained(*command, "--fail-on", wrong)
        assert refused.code == 2
        assert told in refused.err


def test_two_outputs_cannot_be_one_file(trained: WarmCommandLine, tmp_path: Path) -> None:
    for options, told in (
        (("--output", tmp_path / "x", "--report", tmp_path / "x"), "--output and --report"),
        (("--alignments", tmp_path / "x", "--report", tmp_path / "x"), "--alignments and --report"),
        (("--report", "-"), "--output and --report"),
    ):
        refused = trained("translate", "run", "test.digits", *options)
        assert refused.code == 2
        assert f"{told} name the same file" in refused.err


def test_a_killed_report_resumes_in_step_and_counts_all_lines(
    trained: WarmCommandLine, tmp_path: Path
) -> None:
    def files(name: str) -> tuple[object, ...]:
        return ("--output", tmp_path / name, "--report", tmp_path / f"{name}.jsonl",
                "--set", "decoding.buffer_lines=50")  # fmt: skip

    text = "train.digits"
    whole = succeed(trained, "translate", "run", text, *files("whole"))
    part = tmp_path / ".parted.part-2"
    begun = trained.start("translate", "run", text, *files("parted"))
    begun.wait_until(lambda: part.is_file() and (tmp_path / ".parted.journal").is_file())
    begun.send(signal.SIGKILL)
    begun.finish()
    refused = trained("translate", "run", text, "--output", tmp_path / "parted", "--set",
                      "decoding.buffer_lines=50")  # fmt: skip
    assert refused.code == 2
    assert "--report or --fail-on: given then, not given now" in refused.err
    done = succeed(trained, "translate", "run", text, *files("parted"))
    assert "resuming after" in done.err
    for suffix in ("", ".jsonl"):
        assert (tmp_path / f"parted{suffix}").read_bytes() == (
            tmp_path / f"whole{suffix}"
        ).read_bytes()
    told = next(line for line in whole.err.splitlines() if "health" in line)
    assert told in done.err

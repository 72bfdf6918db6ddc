"""`-` and /dev/stdout as files, and outputs that cannot work: refused before a model is loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.hostile import drop_override
from tests.cli.warm import WarmCommandLine
from tests.conftest import every_line, succeed

LINES = "1 2 3\n\n4 5\n"


@pytest.fixture
def files(trained_copy: Path, warm: WarmCommandLine) -> WarmCommandLine:
    """The command line beside a trained run, a text and its translation."""
    (trained_copy / "in").write_text(LINES)
    succeed(warm, "translate", "run", "in", "--output", "out")
    succeed(warm, "align", "run", "in", "out", "--output", "links")
    return warm


def test_a_dash_is_stdin_or_stdout_for_every_verb(files: WarmCommandLine) -> None:
    text, out, links = ((files.folder / name).read_bytes() for name in ("in", "out", "links"))
    for command, stdin, said in (
        (("translate", "run", "-"), text, out),
        (("translate", "run", "in", "--output", "-"), b"", out),
        (("translate", "run", "-", "--output", "/dev/stdout"), text, out),
        (("translate", "run", "-", "--output", "new", "--alignments", "-"), text, links),
        (("align", "run", "-", "out"), text, links),
        (("align", "run", "in", "-", "--output", "-"), out, links),
        (("attention", "run", "-", "--output", "shown", "--no-pictures"), text, b""),
        (("attention", "run", "in", "--references", "-", "--output", "shown", "--no-pictures"),
         out, b""),
    ):  # fmt: skip
        assert succeed(files, *command, stdin=stdin).out.encode() == said, command
    assert (files.folder / "new").read_bytes() == out
    assert (files.folder / "shown/attention.html").is_file()
    for options in (("--hypotheses", "-", "--references", "out"),
                    ("--hypotheses", "out", "--references", "-"),
                    ("--hypotheses", "out", "--references", "out", "--sources", "-"),
                    ("--hypotheses", "out", "--references", "out", "--baseline", "-")):  # fmt: skip
        assert "chrF2  100.00" in succeed(files, "score", *options, stdin=out).out
    scored = succeed(files, "score", "--alignments", "-", "--gold-alignments", "links", stdin=links)
    assert "AER       0.0000" in scored.out
    assert not list(files.folder.glob("-*"))


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (("align", "run", "-", "-"), "can be read only once"),
        (("attention", "run", "-", "--references", "-"), "can be read only once"),
        (("attention", "run", "--references", "-"), "can be read only once"),
        (("score", "--hypotheses", "-", "--references", "-"), "can be read only once"),
        (("score", "--alignments", "-", "--gold-alignments", "-"), "can be read only once"),
        (("translate", "run", "in", "--alignments", "-"), "name the same file"),
        (("translate", "run", "in", "--output", "-", "--alignments", "/dev/stdout"), "the same"),
        (("attention", "run", "in", "--output", "-"), "--output takes a folder"),
    ],
    ids=" ".join,
)
def test_a_stream_asked_for_twice_is_refused(
    command: tuple[str, ...], error: str, trained: WarmCommandLine
) -> None:
    refused = trained(*command)
    assert refused.code == 2
    assert error in refused.err
    assert "using" not in refused.err


OUTPUTS = {
    "translate --output": ("translate", "run", "test.digits", "--output"),
    "translate --alignments": ("translate", "run", "test.digits", "--alignments"),
    "align --output": ("align", "run", "test.digits", "test.words", "--output"),
    "attention --output": ("attention", "run", "test.digits", "--no-pictures", "--output"),
}


@pytest.mark.parametrize("command", OUTPUTS.values(), ids=OUTPUTS)
def test_an_output_that_cannot_work_is_refused_before_the_model_is_loaded(
    command: tuple[str, ...], trained: WarmCommandLine, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/other").write_text("")
    outputs = {"file/x": "a file, not a folder", "folder": "", "a" * 300: "too long"}
    if command[0] == "attention":
        outputs |= {"file/x": "Not a directory", "file": "this is a file"}
    else:
        outputs |= {"nowhere/x": "there is no folder"}
    for output, error in outputs.items():
        refused = trained(*command, tmp_path / output)
        assert refused.code == 2
        assert f"error: {tmp_path / output}: " in refused.err
        assert error in refused.err
        assert "using" not in refused.err  # what loading a checkpoint says
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "other"]
    missing = trained(*command, tmp_path / "new", "--checkpoint", "nowhere")
    assert "there is no checkpoint nowhere" in missing.err
    assert not (tmp_path / "new").exists()


def test_descriptors_are_written_to_as_they_are(trained: WarmCommandLine, tmp_path: Path) -> None:
    """Under bash, which gives a command a pipe as a file, and appends to a log."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = f"{sys.executable} -m mtrain translate run test.digits --engine torch --output"
    script = (
        f"{command} /dev/stdout | cat > {tmp_path}/piped && "
        f"{command} >(cat > {tmp_path}/substituted) && "
        f"echo before > {tmp_path}/log && {command} /dev/stdout >> {tmp_path}/log && sleep 0.2"
    )
    subprocess.run(["bash", "-c", script], cwd=trained.folder, env=env, check=True, timeout=120)
    piped, substituted, log = (
        (tmp_path / name).read_text() for name in ("piped", "substituted", "log")
    )
    assert len(every_line(piped)) == 60
    assert substituted == piped
    assert log == "before\n" + piped


def test_a_locked_folder_is_told_before_the_model_is_loaded(
    trained: WarmCommandLine, tmp_path: Path
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    for command in OUTPUTS.values():
        done = subprocess.run(
            [sys.executable, "-m", "mtrain", *command, locked / "x"],
            cwd=trained.folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            preexec_fn=drop_override,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert f"error: {locked / 'x'}: no permission" in done.stderr
        assert "using" not in done.stderr

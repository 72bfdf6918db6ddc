"""`translate --output FILE` after kill -9, signals and a full disk: the same command continues.

The number of kills is KILLS in the environment, 50 by default. By hand, with the figures shown:

    KILLS=1000 pytest -s tests/cli/test_translate_resume.py -k killed_at_random
"""

import gzip
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import contents
from tests.cli.hostile import on_a_small_disk
from tests.cli.test_line_fidelity import tally
from tests.cli.test_resume import as_options
from tests.cli.warm import WarmCommandLine
from tests.conftest import every_line, succeed

KILLS = int(os.environ.get("KILLS", "50"))
BLOCKS = as_options("decoding.buffer_lines=20")
FAST = (*BLOCKS, "--beam-size", "1")
WAYS = {
    "beam and alignments": (*BLOCKS, "--beam-size", "2", "--alignments", "links"),
    "sampling, 2 best": (*BLOCKS, "--n-best", "2", *as_options("decoding.method=sample")),
}


@pytest.fixture
def files(trained_run: Path, warm: WarmCommandLine) -> WarmCommandLine:
    """The command line beside a link to the trained run and a text of 300 lines."""
    (warm.folder / "run").symlink_to(trained_run)
    lines = (trained_run.parent / "train.digits").read_bytes().split(b"\n")[:300]
    lines[7] = b" ".join([b"3 1 4"] * 40)  # split
    (warm.folder / "in").write_bytes(b"".join(line + b"\n" for line in lines))
    return warm


class Interrupted:
    """Translations of one text that are killed, and what the kills left."""

    def __init__(self, warm: WarmCommandLine, *options: str) -> None:
        self.warm = warm
        self.command = ("translate", "run", "in", "--output", "out", *options)
        self.record = warm.folder / ".out.journal"
        self.figures: Counter[str] = Counter()

    def lines_kept(self) -> int:
        """Return how many lines are safe."""
        try:
            lines: int = json.loads(self.record.read_bytes())["lines"]
        except FileNotFoundError:
            return 0
        return lines

    def stop(
        self, moment: Callable[[], bool], delay: float = 0, number: int = signal.SIGKILL
    ) -> str:
        """Translate; so many seconds after a moment, send a signal; return what it said."""
        running = self.warm.start(*self.command)
        while running.is_alive and not moment():
            time.sleep(0.0005)
        time.sleep(delay)
        if running.is_alive:
            running.send(number)
        finished = running.finish()
        assert finished.code in (-number, 128 + number, 0), finished.err
        assert "Traceback" not in finished.err
        self.figures["kills" if finished.code else "ends"] += 1
        return finished.err

    def stop_after(self, num_lines: int, number: int = signal.SIGKILL) -> str:
        """Stop when so many lines are safe."""
        return self.stop(lambda: self.lines_kept() >= num_lines, number=number)


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_killed_at_random_moments_it_ends_in_the_same_bytes(
    options: tuple[str, ...], files: WarmCommandLine
) -> None:
    folder, dice = files.folder, random.Random(1)
    whole = succeed(files, "translate", "run", "in", "--output", "out", *options)
    names = ["out", "links"] if "links" in options else ["out"]
    wanted = {name: (folder / name).read_bytes() for name in names}
    killed = Interrupted(files, *options)
    new, kept = folder / ".out.journal.new", 0
    moments = [
        (lambda: True, 1.0),  # any moment since the start, loading included
        (lambda: killed.lines_kept() > kept, 0.02),
        (lambda: new.exists() or killed.lines_kept() > kept + 60, 0.0),
    ]
    for name in names:
        (folder / name).write_bytes(b"older\n")
    while killed.figures["kills"] < KILLS // len(WAYS):
        moment, longest_delay = moments[sum(killed.figures.values()) % len(moments)]
        ends = killed.figures["ends"]
        killed.stop(moment, dice.uniform(0, longest_delay))
        is_complete = kept > 0 and not killed.record.exists()  # killed when all was done
        if killed.figures["ends"] == ends and not is_complete:
            assert killed.lines_kept() >= kept
            kept = killed.lines_kept()
            killed.figures["left a record half written"] += new.exists()
        else:
            kept = 0
            assert {name: (folder / name).read_bytes() for name in names} == wanted
    print(f"\n{dict(killed.figures)}, {kept} lines kept", end=" ")
    assert killed.figures["ends"] or kept > 100
    last = succeed(files, *killed.command)
    assert {name: (folder / name).read_bytes() for name in names} == wanted
    assert tally(last.err) == tally(whole.err)
    assert sorted(path.name for path in folder.iterdir()) == sorted(["in", "run", *names])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_says_that_the_same_command_continues(number: int, files: WarmCommandLine) -> None:
    stopped = Interrupted(files, *FAST)
    said = stopped.stop_after(40, number)
    kept = stopped.lines_kept()
    assert f"the first {kept:,} lines are kept: the same command continues after them" in said
    resumed = succeed(files, *stopped.command)
    assert f"out: resuming after {kept:,} lines" in resumed.err
    assert tally(resumed.err) == {
        **{"lines": 300, "ordinary": 299, "empty": 0, "split": 1, "cut_off": 0, "invalid": 0}
    }
    again = succeed(files, *stopped.command)
    assert "resuming" not in again.err


def test_the_text_may_come_in_another_way_and_may_have_grown(files: WarmCommandLine) -> None:
    """But not change in the lines that are done."""
    folder = files.folder
    text = (folder / "in").read_bytes()
    wanted = succeed(files, "translate", "run", "in", *FAST).out.encode()
    killed = Interrupted(files, *FAST)
    more = b"".join(text.splitlines(keepends=True)[100:133])
    (folder / "in.gz").write_bytes(gzip.compress(text + more))
    for input_path, stdin, expected in (
        ("-", text, wanted),
        ("/dev/stdin", text, wanted),
        ("in.gz", b"", succeed(files, "translate", "run", "in.gz", *FAST).out.encode()),
    ):
        (folder / "out").unlink(missing_ok=True)
        killed.stop_after(100)
        command = ("translate", "run", input_path, "--output", "out", *FAST)
        resumed = succeed(files, *command, stdin=stdin)
        assert "resuming after " in resumed.err
        assert (folder / "out").read_bytes() == expected
    assert len(every_line(expected.decode())) == 333


def test_what_does_not_belong_to_the_journal_is_refused_and_nothing_is_lost(
    files: WarmCommandLine, trained_run: Path
) -> None:
    folder = files.folder
    (folder / "out").write_bytes(b"older\n")
    text = (folder / "in").read_bytes()
    killed = Interrupted(files, *FAST)
    killed.stop_after(40)
    kept = f"{killed.lines_kept():,}"
    (folder / "other").write_bytes(text.replace(b" ", b"  ", 1))
    (folder / "short").write_bytes(text[:50])
    other = sorted((trained_run / "checkpoints").iterdir())[0].name
    before = contents(folder)
    beam = "decoding.beam_size: 1 then, 2 now"
    given = ("translate", "run", "in", "--output", "out", *FAST)
    for command, told in (
        ((*given[:-1], "2"), beam),
        ((*given[:-1], "2", "--alignments", "links"), beam),
        ((*given, "--alignments", "links"), "--alignments: nothing then, links now"),
        ((*given, "--set", "seed=5"), "seed: 1 then, 5 now"),
        ((*given, "--set", "decoding.buffer_lines=5"), "decoding.buffer_lines: 20 then, 5 now"),
        ((*given, "--checkpoint", other), "the model, or its checkpoint"),
        ((*given[:2], "other", *given[3:]), f"other is another text: its first {kept} lines are"),
        ((*given[:2], "short", *given[3:]), "short is another text: it has "),
    ):
        refused = files(*command)
        assert refused.code == 2, command
        assert told in refused.err
        assert f"there is an unfinished translation of {kept} lines, and " in refused.err
        assert f"remove {killed.record} to begin afresh" in refused.err
        assert "lines are kept" not in refused.err
        assert contents(folder) == before
    resumed = succeed(files, *killed.command, "--set", "decoding.precision=fp32")  # as auto is
    assert f"resuming after {kept} lines" in resumed.err
    wanted = (folder / "out").read_bytes()
    killed.stop_after(40)
    killed.record.unlink()
    succeed(files, *given[:-1], "2")
    assert (folder / "out").read_bytes() == succeed(
        files, "translate", "run", "in", *BLOCKS, "--beam-size", "2").out.encode()  # fmt: skip
    assert (folder / "out").read_bytes() != wanted
    assert sorted(path.name for path in folder.iterdir()) == ["in", "other", "out", "run", "short"]


def test_a_damaged_journal_is_refused(files: WarmCommandLine) -> None:
    killed = Interrupted(files, *FAST)
    killed.stop_after(40)
    record = killed.record.read_bytes()
    os.truncate(files.folder / ".out.part", 3)
    assert "its lines are not all there" in files(*killed.command).err
    killed.record.write_bytes(record[:-20])
    refused = files(*killed.command)
    assert refused.code == 2
    assert "its journal cannot be read: damaged, or of another version" in refused.err
    assert killed.record.read_bytes() == record[:-20]


def test_two_processes_may_not_write_one_output(files: WarmCommandLine) -> None:
    first = files.start("translate", "run", "in", "--output", "out", *BLOCKS)
    first.wait_until((files.folder / ".out.journal").exists)
    first.send(signal.SIGSTOP)
    second = files("translate", "run", "in", "--output", "out", *BLOCKS)
    first.send(signal.SIGCONT)
    assert second.code == 2
    assert "out: another process is writing this output" in second.err
    assert "using" not in second.err  # before the model is loaded
    assert first.finish().code == 0
    assert len(every_line((files.folder / "out").read_text())) == 300


def test_a_full_disk_keeps_what_is_written(files: WarmCommandLine) -> None:
    folder = files.folder
    wanted = succeed(files, "translate", "run", "in", *FAST).out
    command = f"{sys.executable} -m mtrain translate run in {' '.join(FAST)} --output disk/out"
    ended = on_a_small_disk(folder, 12, command)
    assert ended.code == 2
    assert "disk/out: the disk is full" in ended.err
    found = re.search(r"the first (\d+) lines are kept", ended.err)
    assert found
    assert 0 < int(found[1]) < 300
    assert sorted(path.name for path in (folder / "copy").iterdir()) == [
        ".out.journal", ".out.part"]  # fmt: skip
    resumed = succeed(files, "translate", "run", "in", *FAST, "--output", "copy/out")
    assert f"resuming after {found[1]} lines" in resumed.err
    assert (folder / "copy/out").read_text() == wanted
    shutil.rmtree(folder / "copy")

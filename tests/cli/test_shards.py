"""`translate --shard` and `merge`: the bytes of one process, after kills, or an error by name."""

import re
import shutil
import signal
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from mtrain.commands.merge_translation import merge_translation
from mtrain.errors import UserError
from tests.cli.conftest import contents
from tests.cli.test_line_fidelity import tally
from tests.cli.test_resume import as_options
from tests.cli.warm import WarmCommandLine
from tests.conftest import succeed

TEXT = b"".join(
    b"%d %d\n" % (number % 7, number % 10) if number % 9 else b"77 88 %d\n" % number
    for number in range(50)
) + b"".join([b"\n", b" ".join([b"3 1 4"] * 40) + b"\n", b"4 \xff 5\n"])
GREEDY = "--beam-size", "1"
BLOCKS = as_options("decoding.buffer_lines=6")  # nine of them
ALL = "--alignments", "links", "--report", "health"
WAYS = {
    "beam, with all outputs": (3, (*BLOCKS, "--beam-size", "2", *ALL)),
    "2 best samples": (2, (*BLOCKS, "--n-best", "2", *as_options("decoding.method=sample"))),
    "one shard": (1, (*BLOCKS, *GREEDY)),
    "more shards than blocks": (3, (*as_options("decoding.buffer_lines=40"), *GREEDY, *ALL)),
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, trained_run: Path) -> Path:
    """A folder with the two shards of a translation and, in `whole`, what one process wrote."""
    folder = tmp_path_factory.mktemp("shards")
    with closing(WarmCommandLine(folder)) as warm:
        beside(warm, trained_run)
        for number in (1, 2):
            succeed(warm, *command(*GREEDY, *BLOCKS, *ALL), "--shard", f"{number}/2")
        (folder / "whole").mkdir()
        with closing(WarmCommandLine(folder / "whole")) as whole:
            beside(whole, trained_run)
            succeed(whole, *command(*GREEDY, *BLOCKS, *ALL))
    return folder


@pytest.fixture
def copied(shards: Path, tmp_path: Path) -> Path:
    """The test's own copy of the shards."""
    shutil.copytree(shards, tmp_path, dirs_exist_ok=True, symlinks=True)
    return tmp_path


def beside(warm: WarmCommandLine, run: Path) -> None:
    """Put a run and a text where the command line is."""
    (warm.folder / "run").symlink_to(run)
    (warm.folder / "in").write_bytes(TEXT)


def command(*options: str) -> tuple[str, ...]:
    return ("translate", "run", "in", "--output", "out", *options)


def outputs(folder: Path) -> dict[str, bytes]:
    """Return the whole outputs that are in a folder."""
    paths = (folder / name for name in ("out", "links", "health"))
    return {path.name: path.read_bytes() for path in paths if path.exists()}


@pytest.mark.parametrize(("count", "options"), WAYS.values(), ids=WAYS)
def test_the_merged_shards_are_what_one_process_writes(
    count: int, options: tuple[str, ...], warm: WarmCommandLine, trained_run: Path
) -> None:
    beside(warm, trained_run)
    whole = succeed(warm, *command(*options))
    wanted = outputs(warm.folder)
    assert len(wanted) == (3 if "links" in options else 1)
    for name in wanted:
        (warm.folder / name).write_bytes(b"older\n")
    said = [succeed(warm, *command(*options), "--shard", f"{number}/{count}").err
            for number in range(count, 0, -1)]  # fmt: skip
    assert outputs(warm.folder) == dict.fromkeys(wanted, b"older\n")
    assert all("mtrain merge out" in each for each in said)
    if count == 3 and "decoding.buffer_lines=40" in options:
        assert "shard 3/3 has nothing to translate" in said[0]
        empty = [path.read_bytes() for path in warm.folder.glob("*.shard-3-of-3")]
        assert empty == [b"", b"", b""]
    merged = succeed(warm, "merge", "out")
    assert outputs(warm.folder) == wanted
    assert tally(merged.err) == tally(whole.err)
    assert f"joined {count} shards" in merged.err
    assert told_of_lines(merged.err) == told_of_lines(whole.err)
    assert len(told_of_lines(whole.err)) == (4 if "links" in options else 2)


def told_of_lines(said: str) -> list[str]:
    """Return the warnings about lines and what is said of their health, without file names."""
    about = re.compile(r"\d lines (were|are|have)|: health:")
    told = filter(about.search, said.splitlines())
    return sorted(re.sub(r"\b(in|out): ", "", line) for line in told)


def test_a_killed_shard_continues_and_a_complete_one_is_left_alone(
    shards: Path, warm: WarmCommandLine, trained_run: Path
) -> None:
    beside(warm, trained_run)
    first = (*command(*GREEDY, *BLOCKS, *ALL), "--shard", "1/2")
    record = warm.folder / ".out.shard-1-of-2.journal"
    begun = warm.start(*first)
    begun.wait_until(record.exists)
    begun.send(signal.SIGKILL)
    begun.finish()
    assert not list(warm.folder.glob("[!.]*shard*"))
    missing = warm("merge", "out")
    assert (missing.code, missing.out) == (2, "")
    assert "out: there is not one complete shard" in missing.err
    assert "shard-1-of-2: resuming after " in succeed(warm, *first).err
    names = {path.name for path in shards.iterdir() if "shard-1" in path.name}
    found = {path.name: path.read_bytes() for path in warm.folder.iterdir() if path.is_file()}
    assert found == {name: (shards / name).read_bytes() for name in {*names, "in"}}
    assert "translated before, nothing to do" in succeed(warm, *first).err
    assert found == {path.name: path.read_bytes() for path in warm.folder.iterdir()
                     if path.is_file()}  # fmt: skip
    for path in warm.folder.glob("*.shard-1-of-2"):  # as a merge that was killed removes them
        path.unlink()
    succeed(warm, *first)
    assert found == {path.name: path.read_bytes() for path in warm.folder.iterdir()
                     if path.is_file()}  # fmt: skip


def test_limits_hold_for_all_shards_together(warm: WarmCommandLine, trained_run: Path) -> None:
    """Six lines lose their number, three in each shard."""
    beside(warm, trained_run)
    limited = (*command(*GREEDY, *BLOCKS), "--fail-on", "number_lost=1")
    for number in (1, 2):
        said = succeed(warm, *limited, "--shard", f"{number}/2").err
        assert re.search(r"health: .*number_lost 3 ", said)
    failed = warm("merge", "out")
    assert failed.code == 1
    assert "out: number_lost 6 (11.3%, first in line 1) of 53 lines, more than --fail-on" in (
        failed.err
    )
    assert (warm.folder / "out").read_bytes().count(b"\n") == 53


def rename(old: str, new: str, is_copy: bool = True) -> Callable[[Path], None]:
    """Copy or move every file of a shard to the name of another."""

    def act(folder: Path) -> None:
        for path in list(folder.glob(f"*.shard-{old}*")):
            (shutil.copy if is_copy else shutil.move)(path, str(path).replace(old, new))

    return act


def replace(name: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    """Change the content of a file."""

    def act(folder: Path) -> None:
        content = (folder / name).read_bytes()
        assert old in content
        (folder / name).write_bytes(content.replace(old, new, 1))

    return act


def remove(name: str) -> Callable[[Path], None]:
    """Remove a file."""
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (rename("2-of-2", "1-of-2"), "shard-1-of-2: this is shard 2/2 under"),
        (rename("1-of-2", "01-of-2"), "shard-01-of-2: this is shard 1/2 under"),
        (rename("1-of-2", "1-of-3", False), "shard-1-of-3: this is shard 1/2 under"),
        (remove("out.shard-1-of-2.json"), "1 of 2 shards are missing: 1"),
        (remove("links.shard-1-of-2"), "links.shard-1-of-2: missing,"),
        (replace("out.shard-2-of-2", b"one", b"two"), "out.shard-2-of-2: missing, changed or"),
        (replace("health.shard-2-of-2", b"ok", b""), "health.shard-2-of-2: missing, changed or"),
        (replace("out.shard-1-of-2.json", b'"tally"', b'"tales"'), "this manifest of"),
    ],
)  # fmt: skip
def test_what_is_missing_or_damaged_is_named_and_nothing_is_written(
    damage: Callable[[Path], None], told: str, copied: Path
) -> None:
    (copied / "out").write_bytes(b"older\n")
    damage(copied)
    before = contents(copied)
    with pytest.raises(UserError, match=told):
        merge_translation(copied / "out")
    assert contents(copied) == before


def test_a_damaged_shard_is_mended_as_the_error_says(
    copied: Path, warm: WarmCommandLine, trained_run: Path
) -> None:
    replace("out.shard-2-of-2", b"one", b"two")(copied)
    again = (*command(*GREEDY, *BLOCKS, *ALL), "--shard", "2/2")
    hints = []
    for damaged in (partial(merge_translation, copied / "out"), partial(refuse, warm, *again)):
        with pytest.raises(UserError) as raised:
            damaged()
        hints.append(raised.value.hint)
    assert hints[0] == hints[1]
    names = re.findall(r"\S+shard-2-of-2(?:\.json)?", hints[0])
    for name in names:
        Path(name).unlink()
    succeed(warm, *again)
    merge_translation(copied / "out")
    assert outputs(copied) == outputs(copied / "whole")


def refuse(warm: WarmCommandLine, *arguments: str) -> None:
    """Run a command that must be refused, leaves all as it was, and raise its error."""
    before = contents(warm.folder)
    refused = warm(*arguments)
    assert refused.code == 2, refused.err
    assert contents(warm.folder) == before
    message, _, hint = refused.err.partition("error: ")[2].strip().rpartition("\n")
    raise UserError(message, hint)


def test_shards_of_different_jobs_and_texts_are_refused(
    copied: Path, warm: WarmCommandLine
) -> None:
    given = command(*BLOCKS, *ALL)
    second = "--shard", "2/2"
    with pytest.raises(UserError, match=r"another translation:\n  decoding.beam_size: 1 -> 2"):
        refuse(warm, *given, "--beam-size", "2", *second)
    text = (copied / "in").read_bytes()
    (copied / "in").write_bytes(text + b"1 2\n")
    with pytest.raises(UserError, match=r"another translation:(\n.*)*text.lines: 53 -> 54"):
        refuse(warm, *given, *GREEDY, *second)
    (copied / "out.shard-2-of-2.json").unlink()
    (copied / "out.shard-2-of-2").unlink()
    with pytest.raises(UserError, match=r"links.shard-2-of-2: there is a file, and no manifest"):
        refuse(warm, *given, *GREEDY, *second)
    for path in copied.glob("*.shard-2-of-2"):
        path.unlink()
    succeed(warm, *given, *GREEDY, *second)
    with pytest.raises(UserError, match=r"are of different jobs:(\n.*)*text.lines: 53 -> 54"):
        merge_translation(copied / "out")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("-", "--output", "out"), "stdin has no shards"),
        (("in",), "--output must name a file"),
        (("in", "--output", "out", "--report", "/dev/null"), "--report must name a file"),
        (("in", "--output", "out", "--shard", "3/2"), "--shard 3/2: not a shard"),
    ],
)
def test_what_cannot_be_a_shard_is_named(
    arguments: tuple[str, ...], told: str, trained: WarmCommandLine
) -> None:
    given = arguments if "--shard" in arguments else (*arguments, "--shard", "1/2")
    finished = trained("translate", "run", *given)
    assert finished.code == 2
    assert told in finished.err
    assert "using" not in finished.err  # before the model is loaded

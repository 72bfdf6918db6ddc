"""The journal of output files: killed before any call that writes, it resumes to the same bytes."""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtrain.decoding.journal import Journal
from mtrain.decoding.lines_done import LinesDone, Unit
from mtrain.errors import UserError

BLOCKS = [
    (b"one\n", b"1\n", 1),
    (b"two\nthree\n", b"2\n3\n", 2),
    (b"", b"4\n", 1),
    (b"5\n", b"", 1),
]
WHOLE = b"one\ntwo\nthree\n5\n", b"1\n2\n3\n4\n"
IDENTITY = {"model": "a", "decoding": {"beam_size": 2}}


def work(folder: Path, identity: dict[str, Any] = IDENTITY) -> None:
    """Write two outputs, in two folders, after what an earlier attempt has written."""
    with Journal(folder / "out", folder / "other/links") as journal:
        journal.begin(identity)
        start = 0
        for text, links, num_lines in BLOCKS:
            if start >= journal.num_lines:
                assert journal.notes == ({"start": start} if start else {})
                journal.append([text, links], num_lines, {"start": start + num_lines})
            start += num_lines
        journal.finish(identity)


def dies_at(folder: Path, call: int) -> bool:
    """Do the work in a process that dies before the call of that number; tell whether it died."""
    child = os.fork()
    if child == 0:
        calls = iter(range(call))

        def dying(function: Any) -> Any:
            def call_or_die(*arguments: Any, **options: Any) -> Any:
                if next(calls, None) is None:
                    os._exit(9)
                return function(*arguments, **options)

            return call_or_die

        for name in ("fsync", "replace", "unlink", "open"):
            setattr(os, name, dying(getattr(os, name)))
        try:
            work(folder)
            os._exit(0)
        except BaseException:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with another one, and without the wait for the disk: no power fails here."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    (tmp_path / "other").mkdir()
    return tmp_path


def check_end(folder: Path) -> None:
    found = (folder / "out").read_bytes(), (folder / "other/links").read_bytes()
    assert found == WHOLE
    names = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert names == {"out", "out.json", "other", "other/links"}
    assert Journal.is_complete(folder / "out", IDENTITY)


@pytest.mark.parametrize("older", [False, True], ids=["new", "over older outputs"])
def test_killed_before_any_call_it_ends_in_the_same_bytes(older: bool, folder: Path) -> None:
    call, lines_kept = 0, []
    while True:
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            path.unlink()
        if older:
            (folder / "out").write_bytes(b"older\n")
        if not dies_at(folder, call):
            break
        named = (folder / "out").read_bytes() if (folder / "out").exists() else None
        assert named in (b"older\n" if older else None, WHOLE[0])
        with Journal(folder / "out", folder / "other/links") as journal:
            lines_kept.append(journal.earlier.lines if journal.earlier else 0)
            is_complete = journal.earlier is not None and journal.earlier.is_complete
        for part in () if is_complete else folder.glob(".out.part*"):
            with part.open("ab") as file:
                file.write(b"not flushed")
        work(folder)
        check_end(folder)
        call += 1
    check_end(folder)
    assert call > 25
    assert {0, 1, 3, 4, 5} <= set(lines_kept)


def test_killed_again_and_again_it_ends_in_the_same_bytes(folder: Path) -> None:
    dice, kills = random.Random(1), 0
    for _ in range(3):
        while dies_at(folder, dice.randrange(24)):
            kills += 1
        check_end(folder)
    assert kills > 20


def test_the_work_of_another_identity_is_dropped_if_it_is_begun_anew(folder: Path) -> None:
    dies_at(folder, 18)
    other = {"model": "b"}
    with Journal(folder / "out", folder / "other/links") as journal:
        assert journal.earlier is not None
        assert journal.earlier.lines > 0
        assert not journal.resumes(other)
    work(folder, other)
    assert json.loads((folder / "out.json").read_bytes()) == other
    assert (folder / "out").read_bytes() == WHOLE[0]


@pytest.mark.parametrize("damage", ["cut", "gone", "record"])
def test_what_is_not_whole_cannot_be_resumed(damage: str, folder: Path) -> None:
    while dies_at(folder, 18) and not (folder / ".out.journal").is_file():
        pass
    if damage == "record":
        (folder / ".out.journal").write_text('{"identity": {"mod')
    elif damage == "cut":
        os.truncate(folder / ".out.part", 1)
    else:
        (folder / ".out.part").unlink()
    with Journal(folder / "out", folder / "other/links") as journal:
        assert journal.earlier is not None
        assert not journal.resumes(IDENTITY)
    work(folder)
    check_end(folder)


def test_two_may_not_write_the_same_output(folder: Path) -> None:
    with Journal(folder / "out") as first:
        first.begin(IDENTITY)
        first.append([b"one\n"], 1, {})
        with pytest.raises(UserError, match="another process is writing this output"):
            Journal(folder / "out").__enter__()
        first.append([b"two\n"], 1, {})
        first.finish()
    assert (folder / "out").read_bytes() == b"one\ntwo\n"


def test_an_output_that_cannot_be_written_is_named_and_nothing_is_left(folder: Path) -> None:
    (folder / "file").touch()
    for second in ("nowhere/links", "file/links"):
        with pytest.raises(UserError, match=second), Journal(folder / "out", folder / second):
            pass
    with pytest.raises(OSError, match="too long") as caught, Journal(folder / ("a" * 300)):
        pass
    assert caught.value.filename == str(folder / ("a" * 300))
    assert sorted(path.name for path in folder.iterdir()) == ["file", "other"]


# -- the lines that are done -----------------------------------------------------------------------


def units(num_lines: int, size: int, document_size: int = 0) -> Iterator[Unit]:
    """Yield numbered lines in blocks, of documents of a size if it is given."""
    for start in range(0, num_lines, size):
        numbers = range(start, min(start + size, num_lines))
        documents = [number // document_size for number in numbers] if document_size else None
        yield [b"line %d" % number for number in numbers], documents


def refusal(told: str) -> UserError:
    return UserError(told)


@pytest.mark.parametrize("document_size", [0, 5])
@pytest.mark.parametrize(("num_done", "sizes"), [
    (0, [10, 10, 5]), (10, [10, 5]), (20, [5]), (25, []), (15, [5, 5]),
])  # fmt: skip
def test_lines_that_are_done_are_passed_over(
    num_done: int, sizes: list[int], document_size: int
) -> None:
    """Within a block too: that of an input that was shorter when its last block was written."""
    before, done = LinesDone(), LinesDone()
    for lines, documents in units(num_done, 5, document_size):
        before.add(lines, documents)
    rest = []
    for lines, documents in done.pass_over(
        units(25, 10, document_size), num_done, before.digest, refusal
    ):
        assert lines[0] == b"line %d" % done.num_lines
        assert documents is None or len(documents) == len(lines)
        done.add(lines, documents)
        rest.append(len(lines))
    assert rest == sizes
    whole = LinesDone()
    whole.add(*next(units(25, 25, document_size)))
    assert done.digest == whole.digest


@pytest.mark.parametrize(("text", "told"), [
    (units(9, 5), "it has 9 lines"),
    (units(0, 5), "it has 0 lines"),
    (iter([([b"line"] * 20, None)]), "its first 10 lines are others"),
    (units(20, 20, 5), "its first 10 lines are others"),  # in documents, as it was not before
])  # fmt: skip
def test_another_text_is_refused(text: Iterator[Unit], told: str) -> None:
    before = LinesDone()
    before.add(*next(units(10, 10)))
    with pytest.raises(UserError, match=told):
        list(LinesDone().pass_over(text, 10, before.digest, refusal))


def test_a_document_that_was_complete_may_not_go_on() -> None:
    before = LinesDone()
    before.add(*next(units(10, 10, 4)))
    with pytest.raises(UserError, match="line 11 continues a document that was complete"):
        list(LinesDone().pass_over(units(12, 12, 4), 10, before.digest, refusal))

"""Lines through real pipes: as they arrive, all of them, and errors where they are used."""

import gzip
import io
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from mtrain.decoding.stream import LineTally, arriving_blocks, full_blocks
from mtrain.decoding.translator import Translation
from mtrain.errors import UserError
from mtrain.text.lines import open_bytes


@contextmanager
def pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Yield the two ends of a pipe: to read from, and to write to without a buffer."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb", buffering=0) as sink:
        yield source, sink


def test_a_line_is_handed_on_before_the_next_is_written() -> None:
    """Each line is written only after the one before it has come out: waiting for a second
    line, or for the end, would wait for ever."""
    with pipe() as (source, sink):
        blocks = arriving_blocks(source, 100)
        for line in (b"one", b"", b"three\r"):
            sink.write(line + b"\n")
            assert next(blocks) == [line]
        sink.write(b"fo")
        time.sleep(0.01)
        sink.write(b"ur\n")
        assert next(blocks) == [b"four"]
        sink.write(b"no newline at the end")
        sink.close()
        assert list(blocks) == [[b"no newline at the end"]]


def test_lines_that_wait_come_together_up_to_the_most_allowed(tmp_path: Path) -> None:
    lines = [b"%d" % number for number in range(25)]
    path = tmp_path / "lines"
    path.write_bytes(b"\n".join(lines) + b"\n")
    with path.open("rb") as file:
        blocks = arriving_blocks(file, 10)
        first = next(blocks)
        time.sleep(0.2)  # meanwhile the reader fills what room there is
        second = next(blocks)
        rest = list(blocks)
    assert len(second) == 10
    assert first + second + [line for block in rest for line in block] == lines
    assert all(1 <= len(block) <= 10 for block in [first, *rest])


@pytest.fixture
def restless_threads() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("restless_threads")
def test_no_block_is_larger_than_allowed_however_fast_lines_come(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"line\n" * 20_000)
    with path.open("rb") as file:
        sizes = [len(block) for block in arriving_blocks(file, 3)]
    assert sum(sizes) == 20_000
    assert max(sizes) == 3


def test_a_writer_with_pauses_loses_nothing() -> None:
    lines = [b"line %d" % number for number in range(300)]

    def write(sink: BinaryIO) -> None:
        for number, line in enumerate(lines):
            sink.write(line + b"\n")
            if number % 50 == 0:
                time.sleep(0.01)
        sink.close()

    with pipe() as (source, sink):
        writer = threading.Thread(target=write, args=(sink,))
        writer.start()
        received = [line for block in arriving_blocks(source, 7) for line in block]
        writer.join()
    assert received == lines


@pytest.mark.parametrize(
    ("text", "sizes"),
    [(b"", []), (b"\n", [1]), (b"a\n" * 6, [3, 3]), (b"a\n" * 7, [3, 3, 1]), (b"a\nb", [2])],
)
def test_full_blocks_are_full_but_for_the_last(text: bytes, sizes: list[int]) -> None:
    blocks = list(full_blocks(io.BytesIO(text), 3))
    assert [len(block) for block in blocks] == sizes
    lines = [line for block in blocks for line in block]
    assert lines == (text.removesuffix(b"\n").split(b"\n") if text else [])


def test_nothing_in_gives_nothing_out() -> None:
    with pipe() as (source, sink):
        sink.close()
        assert list(arriving_blocks(source, 5)) == []


def test_an_error_comes_where_the_lines_are_used_after_those_read_before(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b"line %d\n" % number for number in range(50_000)))
    path = tmp_path / "cut.gz"
    path.write_bytes(whole[: len(whole) // 2])
    received: list[bytes] = []

    def read() -> None:
        with open_bytes(path) as file:
            for block in arriving_blocks(file, 1000):
                received.extend(block)

    with pytest.raises(UserError, match=r"cut\.gz: damaged"):
        read()
    assert len(received) > 1000
    assert received == [b"line %d" % number for number in range(len(received))]


def test_the_tally_accounts_for_every_line() -> None:
    tally = LineTally()
    one = (["x"], [0.0])
    for translation in (
        Translation(*one),
        Translation(*one),
        Translation([""], [0.0], is_empty=True, num_segments=0),
        Translation(*one, num_segments=3),
        Translation(*one, num_segments=2, is_cut_off=True),
        Translation(*one, is_cut_off=True),
        Translation(*one, is_valid_text=False),
    ):
        tally.note(translation)
    assert tally == LineTally(lines=7, ordinary=2, empty=1, split=2, cut_off=2, invalid=1)
    assert str(tally) == (
        "7 lines: 2 ordinary, 1 empty, 2 split, 2 cut off at the length limit, "
        "1 with invalid UTF-8 replaced"
    )
    of_documents = LineTally(lines=2, ordinary=2, mismatched=1)
    assert of_documents + LineTally(lines=1, split=1, mismatched=2) == LineTally(
        lines=3, ordinary=2, split=1, mismatched=3
    )

"""Lines are bytes between \\n: as many out as in, whatever they hold and however compressed."""

import bz2
import gzip
import lzma
import os
import stat
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest

from mtrain.errors import UserError
from mtrain.text.lines import (
    blocks,
    clean_bytes,
    clean_line,
    clean_lines,
    clean_pairs,
    clean_target,
    decode_line,
    file_digest,
    make_readable,
    one_line,
    read_lines,
    write_whole,
)
from tests.traps import TRAPS, Trap, every_trap


def zstandard(plain: bytes) -> bytes:
    """Compress as the `zstd` program does with a pipe: one frame, its size unknown beforehand."""
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(plain)
    return bytes(sink.getvalue().to_pybytes())


PZSTD_HEADER = b"\x50\x2a\x4d\x18\x04\x00\x00\x00size"  # the skippable frame before each of pzstd
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "zst": zstandard,
    "bz2": bz2.compress,
    "pzstd.zst": lambda plain: PZSTD_HEADER + zstandard(plain),
}
every_compression = pytest.mark.parametrize("compress", COMPRESSIONS.values(), ids=COMPRESSIONS)
ALL_LINES = [trap.raw for trap in TRAPS.values()]


@every_trap
@pytest.mark.parametrize("end", [b"\n", b""], ids=["ended", "no final newline"])
def test_a_trap_is_one_line_of_the_file(trap: Trap, end: bytes, tmp_path: Path) -> None:
    lines = [b"before", trap.raw, b"", b"after"]
    (tmp_path / "text").write_bytes(b"\n".join(lines) + end)
    assert list(read_lines(tmp_path / "text")) == lines


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"\n\n", [b"", b""]),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"a\n\n", [b"a", b""]),
        (b"\na", [b"", b"a"]),
        (b"a\r\nb\r\n", [b"a\r", b"b\r"]),
        (b"\r", [b"\r"]),
    ],
)
def test_a_line_is_what_a_newline_ends_or_the_rest(
    content: bytes, lines: list[bytes], tmp_path: Path
) -> None:
    (tmp_path / "text").write_bytes(content)
    assert list(read_lines(tmp_path / "text")) == lines


@every_compression
def test_compressed_lines_are_the_same_lines(
    compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    # the name is no help: what tells is the first bytes
    (tmp_path / "text").write_bytes(compress(b"\n".join(ALL_LINES)))
    assert list(read_lines(tmp_path / "text")) == ALL_LINES


@every_compression
def test_compressed_files_put_one_after_another_are_all_read(
    compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    (tmp_path / "text").write_bytes(compress(b"a\nb\n") + compress(b"c\n") + compress(b"d"))
    assert list(read_lines(tmp_path / "text")) == [b"a", b"b", b"c", b"d"]


@every_compression
def test_a_character_on_the_border_of_a_block_stays_whole(
    compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    line = "x" + "\u2028ß😀" * 50_000  # every border of 2^n bytes cuts a character
    (tmp_path / "text").write_bytes(compress(f"{line}\n{line}\n".encode()))
    assert [decode_line(raw) for raw in read_lines(tmp_path / "text")] == [(line, True)] * 2


def cut_places(size: int) -> list[int]:
    """Return where to cut a compressed file: in its head, its body and its last bytes."""
    return [6, 8, 12, *(size * part // 8 for part in range(1, 8)), size - 8, size - 4, size - 1]


@every_compression
def test_a_compressed_file_that_was_cut_short_is_named(
    compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "text"
    plain = b"".join(b"line %d %s\n" % (number, os.urandom(8).hex().encode())
                     for number in range(3000))  # fmt: skip
    whole = compress(plain)
    first_cut = 6 if not whole.startswith(PZSTD_HEADER) else len(PZSTD_HEADER) + 6
    for place in (place for place in cut_places(len(whole)) if place >= first_cut):
        path.write_bytes(whole[:place])
        with pytest.raises(UserError, match="damaged compressed file") as caught:
            list(read_lines(path))
        assert str(path) in str(caught.value), place


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2"])  # zst carries a checksum only if asked to
def test_a_flipped_byte_in_a_compressed_file_is_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"text.{kind}"
    damaged = bytearray(COMPRESSIONS[kind](b"".join(b"line %d\n" % n for n in range(9999))))
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=f"text.{kind}: damaged"):
        list(read_lines(path))


@pytest.mark.parametrize("kind", ["gz", "zst"])  # xz takes what follows for padding
def test_garbage_behind_a_compressed_file_is_named(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"text.{kind}"
    path.write_bytes(COMPRESSIONS[kind](b"a\nb\n") + b"garbage")
    with pytest.raises(UserError, match=f"text.{kind}: damaged"):
        list(read_lines(path))


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.en: there is no such file"):
        list(read_lines(tmp_path / "nowhere.en"))
    with pytest.raises(UserError, match="this is a folder"):
        list(read_lines(tmp_path))


def test_reading_holds_a_line_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "text.gz"
    path.write_bytes(gzip.compress(b"".join(b"%0100d\n" % number for number in range(50_000))))
    tracemalloc.start()
    assert sum(1 for _ in read_lines(path)) == 50_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 500_000  # of 5 million bytes


@every_trap
def test_text_is_cleaned_as_the_table_says(trap: Trap) -> None:
    assert decode_line(trap.raw)[1] is trap.is_valid
    assert clean_bytes(trap.raw) == trap.clean
    assert clean_line(trap.clean) == trap.clean  # cleaning twice is cleaning once


@every_trap
def test_lines_are_cleaned_together_as_each_alone(trap: Trap) -> None:
    for others in ([], [b"x"], [b"x", b"", b" y\xc2\xa0z "], [b"\xff"], [b"a\nb", b"c"]):
        lines = [*others, trap.raw, *others]
        cleaned, validity = clean_lines(lines)
        assert cleaned == [clean_bytes(line) for line in lines]
        assert validity == [decode_line(line)[1] for line in lines]
    assert clean_lines([]) == ([], [])


SPACES = {"\u00a0", "\u1680", *map(chr, range(0x2000, 0x200B)), "\u202f", "\u205f", "\u3000"}


def test_a_target_keeps_every_space_that_is_no_blank_and_is_else_cleaned_as_a_source() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        text = f" a{character}b "
        if not 0xD800 <= code < 0xE000:  # half a character
            wanted = text.strip() if character in SPACES else clean_line(text)
            assert clean_target(text.encode()) == wanted, hex(code)


@pytest.mark.parametrize(
    ("raw", "wanted"),
    [
        ("«\u00a0oui\u00a0»\u202f; 10\u202f000\u00a0€\u202f?", None),
        ("\u3000行　程\u3000", "行　程"),
        ("\ufeff a\u00a0 \t\x00 \u2028b\r", "a\u00a0 b"),
        ("می\u200cیابد", None),
        ("\u00a0\u3000", ""),
    ],
)
def test_what_a_target_keeps_stays_where_it_stands(raw: str, wanted: str | None) -> None:
    cleaned = clean_target(raw.encode())
    assert cleaned == (raw if wanted is None else wanted)
    assert clean_target(cleaned.encode()) == cleaned
    assert one_line(cleaned) == cleaned  # nor does an output lose it


@every_trap
def test_both_sides_are_cleaned_together_as_each_alone(trap: Trap) -> None:
    lines = [trap.raw, b"x\xc2\xa0y", trap.raw]
    sources, targets = clean_pairs(lines, lines)
    assert sources == [clean_bytes(line) for line in lines]
    assert targets == [clean_target(line) for line in lines]


@every_trap
def test_an_output_text_never_starts_another_line(trap: Trap) -> None:
    text = one_line(f"{decode_line(trap.raw)[0]}\n\nmore\r\n")
    assert len(text.splitlines()) == 1  # the reader that knows the most line ends
    assert text.endswith("more")


def test_of_all_characters_white_space_nul_and_byte_order_mark_become_a_space() -> None:
    characters = [chr(code) for code in range(sys.maxunicode + 1)]
    changed = {c: text for c in characters if (text := clean_line(f"a{c}b")) != f"a{c}b"}
    is_space = {c for c in characters if c.isspace() or len(f"a{c}b".splitlines()) > 1}
    assert set(changed) == (is_space | {"\x00", "\ufeff"}) - {" "}
    assert set(changed.values()) == {"a b"}


def test_blocks_hold_all_items_in_order() -> None:
    assert list(blocks(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(blocks(range(6), 3)) == [[0, 1, 2], [3, 4, 5]]
    assert list(blocks([], 3)) == []


def test_a_file_digest_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(tmp_path / "abc") == expected


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")

    def fail_half_way() -> None:
        with write_whole(path) as file:
            file.write(b"new" * 100_000)
            assert path.read_bytes() == b"old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert path.read_bytes() == b"old"
    with write_whole(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_file_written_through_a_link_leaves_the_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "out")
    with write_whole(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "out").read_bytes() == b"new"


def test_what_is_no_file_is_written_into_and_stays(tmp_path: Path) -> None:
    with write_whole(Path(os.devnull)) as file:
        file.write(b"gone")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_writing_into_a_missing_folder_names_it(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=f"no folder {tmp_path / 'nowhere'}"),
        write_whole(tmp_path / "nowhere" / "out"),
    ):
        pass


def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with write_whole(tmp_path / "out") as file:
            file.write(b"x")
        (tmp_path / "folder").mkdir(mode=0o700)
        make_readable(tmp_path / "folder")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == 0o750

"""The first bytes tell what an input is: decompressed, decoded, refused, or passed as it is."""

import bz2
import gzip
import io
import lzma
import random
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from mtrain.errors import UserError
from mtrain.text.encoding import open_text, refuse_pointer
from tests.traps import LONG, TRAPS
from tests.unit.text.test_lines import zstandard

SCRIPTS = {
    "English": "The teacher sells a paper bag.\nThe doctor paints.\n",
    "German": "Der Lehrer verkauft eine Papiertüte.\n\u201eGrün\u201c \u2013 sagt er.\n",
    "Vietnamese": "Giáo viên bán túi giấy lần nữa.\n",
    "Russian": "Учитель продаёт бумажный пакет.\nВрач красит дверь.\n",
    "Greek": "Ο δάσκαλος πουλάει\nμια σακούλα\n",
    "Hebrew": "המורה מוכר\nשקית נייר\n",
    "Arabic": "المعلم يبيع كيس ورقي\nالطبيب\n",
    "Hindi": "शिक्षक फिर से कागज़ बेचता है।\nडॉक्टर\n",
    "Thai": "ครูขายถุงกระดาษอีกครั้ง\nแพทย์\n",
    "Chinese": "老师又卖了一个纸袋。\n他说“上”字。\n一二三\n",
    "Japanese": "先生は紙袋を売る。\nドアを塗る。\n",
    "Korean": "선생님이 종이 봉투를 판다.\n의사\n",
    "Amharic": "መምህሩ የወረቀት ከረጢት\nዶክተሩ\n",
    "emoji": "😀 a line 😀\n\u4e0aend\n",
    "a word": "Hi\n",
}


class Slow(io.RawIOBase):
    """A stream that hands on a few bytes at a time."""

    def __init__(self, content: bytes, size: int) -> None:
        self._content, self._size = io.BytesIO(content), size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        read = self._content.read(min(self._size, len(buffer)))
        buffer[: len(read)] = read
        return len(read)


def read(content: bytes, size: int = 1 << 20) -> bytes:
    return open_text(Slow(content, size), "input").read()


@pytest.mark.parametrize("text", SCRIPTS.values(), ids=SCRIPTS)
@pytest.mark.parametrize("size", [7, 1 << 20])
@pytest.mark.parametrize(
    "charset", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-16", "utf-32", "utf-8-sig"]
)
def test_text_in_utf_16_and_32_is_read_by_its_mark_or_its_zeros(
    charset: str, size: int, text: str
) -> None:
    if size == 7:  # the first pieces hold the first line only
        text = text.replace("\n", " ", 1)
    assert read(text.encode(charset), size) == text.encode()
    if len(charset) > 6 and charset != "utf-8-sig":
        assert read(("\ufeff" + text).encode(charset), size) == text.encode()


def test_half_a_character_is_told_as_what_cannot_be_decoded() -> None:
    text = "one\nt\ud800wo\n"
    for charset in ("utf-16-le", "utf-16-be"):
        raw = f"\ufeff{text}".encode(charset, "surrogatepass")
        assert read(raw, 3) == text.encode("utf-8", "surrogatepass")
        assert read(raw + b"a", 3) == text.encode("utf-8", "surrogatepass") + b"\xff"


@pytest.mark.parametrize("name", [name for name in TRAPS if len(TRAPS[name].raw) < LONG // 2])
def test_a_hostile_line_among_others_stays_as_it_is(name: str) -> None:
    content = b"\n".join([b"3 1 2", TRAPS[name].raw, b"7 0 4 4"]) + b"\n"
    assert read(content) == content
    assert read(content, 1) == content


def test_bytes_of_no_kind_stay_as_they_are() -> None:
    generator = random.Random(1)
    for _ in range(2000):
        words = [generator.randbytes(generator.randint(1, 6)) for _ in range(40)]
        content = b"a" + generator.choice((b" ", b"\n")).join(words)
        assert read(content) == content
    for content in (
        b"a\x00b c\n" * 10,
        b"find\x00print\x00zero\x00",
        b"gr\xfcn\x00 x\n" * 5,
        b"\x00" * 50 + b"\n",
        b"PAR1 is a gene\n",
        b"BZh is no word\n",
        b"%PDF-files are not read\n",
        b"<html> in a sentence\n",
    ):
        assert read(content) == content


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "xz": lzma.compress, "zstd": zstandard, "bzip2": bz2.compress,
    "lzma": lambda plain: lzma.compress(plain, lzma.FORMAT_ALONE),
}  # fmt: skip


@pytest.mark.parametrize("compress", COMPRESSIONS.values(), ids=COMPRESSIONS)
@pytest.mark.parametrize("size", [1, 1000])
def test_a_compressed_stream_is_read_however_it_arrives(
    compress: Callable[[bytes], bytes], size: int
) -> None:
    plain = "".join(f"line {number} grün\n" for number in range(2000)).encode()
    assert read(compress(plain), size) == plain
    assert read(compress(b""), size) == b""
    assert read(compress(plain.decode().encode("utf-16")), size) == plain
    assert read(gzip.compress(compress(plain)), size) == plain
    with pytest.raises(UserError, match="input: damaged compressed file"):
        read(compress(plain)[:-9], size)


def archive_tar(plain: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("text")
        member.size = len(plain)
        archive.addfile(member, io.BytesIO(plain))
    return file.getvalue()


def archive_zip(plain: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("text", plain)
    return file.getvalue()


def write_parquet(plain: bytes) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": [plain]}), sink)
    return sink.getvalue()


def point(plain: bytes) -> bytes:
    return b"version https://git-lfs.github.com/spec/v1\noid sha256:11\nsize 5\n"


@pytest.mark.parametrize(
    ("make", "kind", "hint"),
    [
        (archive_tar, "a tar archive", "tar -xf FILE"),
        (archive_zip, "a zip archive", "unzip FILE"),
        (lambda _: b"7z\xbc\xaf\x27\x1c\x00\x04", "a 7z archive", "7z x"),
        (lambda _: b"Rar!\x1a\x07\x01\x00", "a rar archive", "unrar x"),
        (point, "a git-lfs pointer", "git lfs pull"),
        (write_parquet, "a Parquet file", "{path: FILE.parquet}"),
        (lambda _: b"%PDF-1.7\n%\xe2\xe3", "a PDF file", "save it as plain text"),
        (lambda _: b"\x89PNG\r\n\x1a\n\x00", "a picture", "save it as plain text"),
        (lambda _: b"\x04\x22\x4d\x18\x64\x40", "compressed by lz4", "lz4 -d"),
    ],
)
def test_what_is_no_text_is_refused_by_its_kind(
    make: Callable[[bytes], bytes], kind: str, hint: str
) -> None:
    raw = make(b"line\n" * 1000)
    packed = [bytes, *COMPRESSIONS.values()]
    for compress in packed:
        with pytest.raises(UserError, match=f"input: this is {kind}") as caught:
            read(compress(raw))
        assert hint in caught.value.hint


def test_a_pointer_is_told_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(point(b""))
    with pytest.raises(UserError, match="a: this is a git-lfs pointer"):
        refuse_pointer(tmp_path / "a")
    (tmp_path / "a").write_bytes(write_parquet(b""))
    refuse_pointer(tmp_path / "a")


class Waiting(io.RawIOBase):
    """A stream that has to be written to before it can be read."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = next(self._blocks)
        buffer[: len(block)] = block
        return len(block)


@pytest.mark.parametrize("charset", ["utf-8", "utf-16"])
def test_a_line_is_handed_on_before_the_next_is_there(charset: str) -> None:
    """A reader that asked for more than the first line would wait for ever."""
    allowed = threading.Semaphore(1)

    def arrive() -> Iterator[bytes]:
        lines = "one\ntwo\n".encode(charset)
        half = lines.index(b"\n") + (2 if charset == "utf-16" else 1)
        for block in (lines[:3], lines[3:half], lines[half:]):
            if block == lines[half:]:
                assert allowed.acquire(timeout=0), "it read on before it handed on the first line"
            yield block

    allowed.acquire()
    text = open_text(Waiting(arrive()), "input")
    assert text.readline() == b"one\n"
    allowed.release()
    assert text.readline() == b"two\n"


@pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2"])
def test_a_compressed_line_is_handed_on_before_the_next_is_there(kind: str) -> None:
    """Each line a member of its own, as a writer that closes and appends makes them."""
    members = [COMPRESSIONS[kind](line) for line in (b"one\n", b"two\n", b"three\n")]
    is_allowed = [True, True, False]  # the end of a member shows only when the next has begun

    def arrive() -> Iterator[bytes]:
        for number, member in enumerate(members):
            assert is_allowed[number], "it read on before it handed on the lines"
            yield member
        yield b""

    text = open_text(Waiting(arrive()), "input")
    assert text.readline() == b"one\n"
    is_allowed[2] = True
    assert list(text) == [b"two\n", b"three\n"]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lambda plain: plain[:0]])
def test_how_much_of_a_file_is_read_can_be_told(
    compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "text"
    lines = [f"{random.Random(number).random()}\n".encode() for number in range(30_000)]
    path.write_bytes(compress(b"".join(lines)))
    with path.open("rb", buffering=0) as raw:
        text = open_text(raw, "input")
        shares = [text.share_read() for _ in text]
        assert shares == sorted(shares)
        if shares:
            assert 0 < shares[0] < 0.5
            assert all(
                abs(share - (number + 1) / len(lines)) < 0.3 for number, share in enumerate(shares)
            )
            assert shares[-1] == 1
        assert text.share_read() == bool(shares)

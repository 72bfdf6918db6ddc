"""Detects the kind of an input from its first bytes, never from its name.

Decompresses compressed streams, converts UTF-16 and UTF-32 to UTF-8, and refuses known formats that
are not text. Files, pipes and stdin are treated alike. All other bytes pass unchanged. Passes the
first line on before it reads further. Independent of the use of the text.
"""

import bz2
import codecs
import gzip
import io
import lzma
import os
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from mtrain.errors import UserError

HEAD_BYTES = 4096  # read to detect the kind
MIN_CHARACTERS = 16  # needed to detect UTF-16 of a non-Latin script
BLOCK_BYTES = 1 << 15
UTF8_MARK = b"\xef\xbb\xbf"
# UTF-32 first: its little-endian mark begins with that of UTF-16
MARKS = {b"\xff\xfe\x00\x00": "utf-32-le", b"\x00\x00\xfe\xff": "utf-32-be",
         b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}  # fmt: skip
ENCODING_HINT = (
    "convert it: iconv -f ENCODING -t UTF-8 FILE > NEW, where ENCODING is LATIN1, CP1251, GB18030, "
    "SHIFT_JIS or what it was written in"
)


def _open_zstandard(file: Any) -> Any:
    import pyarrow  # comes with `datasets`; unlike others, it detects a truncated stream

    return pyarrow.CompressedInputStream(file, "zstd")


DECOMPRESSORS: tuple[tuple[bytes, Callable[[Any], Any]], ...] = (
    (rb"\x1f\x8b", lambda file: gzip.GzipFile(fileobj=file)),
    (rb"\xfd7zXZ\x00|\x5d\x00\x00", lzma.LZMAFile),
    (rb"\x28\xb5\x2f\xfd|\x50\x2a\x4d\x18", _open_zstandard),  # the second is pzstd's
    (rb"BZh[1-9](1AY&SY|1A?Y?&?\Z|\x17rE8P)", bz2.BZ2File),
)

UNPACK = "unpack it, and give the text file that is in it: "
EXPORT = "save it as plain text in UTF-8, a sentence a line"
DECOMPRESS = "decompress it, or compress it with gzip, xz, zstd or bzip2: "
TABLE = "give it to `prepare` as {path: FILE.parquet}, or write its column to a text file"
Kind = tuple[bytes, str, str]  # pattern of its first bytes, name, how to get its text
POINTERS: tuple[Kind, ...] = (
    (rb"version https://git-lfs\.github\.com/spec/",
     "a git-lfs pointer, not the file that it stands for", "fetch that with: git lfs pull"),
    (rb"/annex/objects/", "a git-annex pointer, not the file that it stands for",
     "fetch that with: git annex get FILE"),
)  # fmt: skip
REFUSED: tuple[Kind, ...] = (
    (rb"PK(\x03\x04|\x05\x06|\x07\x08)", "a zip archive, as .docx and .xlsx files are",
     UNPACK + "unzip FILE. From a document, " + EXPORT),
    (rb".{257}ustar[\x00 ]", "a tar archive", UNPACK + "tar -xf FILE"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK + "7z x FILE"),
    (rb"Rar!\x1a\x07", "a rar archive", UNPACK + "unrar x FILE"),
    *POINTERS,
    (rb"\x04\x22\x4d\x18", "compressed by lz4", DECOMPRESS + "lz4 -d FILE"),
    (rb"\x1f\x9d", "compressed by compress", DECOMPRESS + "uncompress FILE.Z"),
    (rb"LZIP\x01", "compressed by lzip", DECOMPRESS + "lzip -d FILE"),
    (rb"\xff\x06\x00\x00sNaPpY", "compressed by snappy", DECOMPRESS + "snzip -d FILE"),
    (rb"PAR1[^ -~\n]", "a Parquet file", TABLE),
    (rb"ARROW1\x00\x00", "an Arrow file", "give its folder to `prepare` as {hub: FOLDER}"),
    (rb"%PDF-\d\.\d\s", "a PDF file", EXPORT),
    (rb"\{\\rtf1", "an RTF document", EXPORT),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a document of an old Office program", EXPORT),
    (rb"SQLite format 3\x00", "an SQLite database", EXPORT),
    (rb"\x89PNG\r\n|\xff\xd8\xff[\xdb-\xef]|GIF8[79]a[^ -~\n]", "a picture", EXPORT),
    (rb"\x7fELF|\x93NUMPY|\x89HDF\r\n", "a binary file", EXPORT),
)  # fmt: skip


class Text(io.BufferedReader):
    """A stream of UTF-8 text, made from a raw stream."""

    def __init__(self, blocks: Iterator[bytes], raw: io.RawIOBase) -> None:
        super().__init__(_Stream(blocks), BLOCK_BYTES)
        self._origin = raw

    def share_read(self) -> float:
        """Return the fraction of the file read so far, 0 to 1; 0 for a stream without a size."""
        size = os.fstat(self._origin.fileno()).st_size
        return self._origin.tell() / size if size and self._origin.seekable() else 0.0


def open_text(raw: io.RawIOBase, name: str) -> Text:
    """Return the text of a raw stream, decompressed and in UTF-8.

    Raises UserError, naming `name`, if it is not text; reading raises it for a damaged stream.
    """
    head, blocks = _begin(iter(lambda: raw.read(BLOCK_BYTES) or b"", b""))
    while decompressor := _decompressor(head):
        head, blocks = _begin(_decompress(decompressor, blocks, name))
    _refuse(REFUSED, head, name, "; text was expected")
    charset = _charset(head)
    if charset:
        blocks = _recode(blocks, charset)
    return Text(_without_mark(blocks), raw)


def refuse_pointer(path: Path) -> None:
    """Raise UserError if a file is a git-lfs or git-annex pointer to one that was not fetched."""
    with path.open("rb") as file:
        _refuse(POINTERS, file.read(HEAD_BYTES), str(path))


def _refuse(kinds: tuple[Kind, ...], head: bytes, name: str, wanted: str = "") -> None:
    for pattern, kind, hint in kinds:
        if re.match(pattern, head, re.DOTALL):
            raise UserError(f"{name}: this is {kind}{wanted}", hint)


class _Stream(io.RawIOBase):
    """A raw stream over an iterator of blocks; passes on each block as soon as it arrives."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        super().__init__()
        self._blocks = blocks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _begin(blocks: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes, enough to detect the kind, and an iterator over all blocks.

    The first bytes end at HEAD_BYTES, or with the block that has the first \\n or completes the
    signature of a compressed stream.
    """
    head = b""
    while len(head) < HEAD_BYTES and b"\n" not in head and not _decompressor(head):
        block = next(blocks, None)
        if block is None:
            break
        head += block
    return head[:HEAD_BYTES], chain([head], blocks)


def _decompressor(head: bytes) -> Callable[[Any], Any] | None:
    return next((opener for start, opener in DECOMPRESSORS if re.match(start, head)), None)


def _decompress(
    opener: Callable[[Any], Any], blocks: Iterator[bytes], name: str
) -> Iterator[bytes]:
    try:
        file = opener(_Stream(blocks))
        while block := file.read1(BLOCK_BYTES):
            yield block
    except (EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{name}: damaged compressed file ({error})") from None
    except OSError as error:
        if error.errno is None:  # gzip, bz2 and pyarrow report damage without one
            raise UserError(f"{name}: damaged compressed file ({error})") from None
        raise


def _charset(head: bytes) -> str | None:
    """Return the encoding of the text if it is UTF-16 or UTF-32, otherwise None."""
    for mark, charset in MARKS.items():
        if head.startswith(mark):
            return charset
    if b"\x00" not in head:
        return None
    candidates = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
    return next((charset for charset in candidates if _reads_as(charset, head)), None)


def _reads_as(charset: str, head: bytes) -> bool:
    """Return whether bytes that contain zeros are UTF-16 or UTF-32 text without a mark.

    Rejects UTF-8 and one-byte encodings with a few NULs: decoded in pairs, their bytes are seldom
    all characters, and their blanks are lost.
    """
    try:
        text = codecs.getincrementaldecoder(charset)().decode(head)
    except UnicodeDecodeError:
        return False
    if len(text) < 3 or sum(map(_is_odd, text)) * 50 > len(text):
        return False
    if charset.startswith("utf-32"):
        return True
    high = 1 if charset == "utf-16-le" else 0  # the byte that is zero in Latin characters
    num_high, num_low = (head[place::2].count(0) for place in (high, 1 - high))
    if num_high * 3 >= len(text) * 2 and num_low * 4 <= num_high:
        return True
    # non-Latin script: as UTF-8, many of its bytes are invalid
    as_bytes = head.decode("utf-8", "replace")
    num_bad = sum(c == "\ufffd" or (c < " " and c not in "\0\n\r") for c in as_bytes)
    num_blanks = text.count(" ") + text.count("\n")
    num_blank_bytes = head.count(b" ") + head.count(b"\n")
    is_text = num_blanks > 0 and num_blanks * 8 >= num_blank_bytes
    return len(text) >= MIN_CHARACTERS and num_bad * 6 >= len(head) and is_text


def _is_odd(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind in ("Cn", "Co", "Cs") or (kind == "Cc" and character not in "\t\n\v\f\r")


def _recode(blocks: Iterator[bytes], charset: str) -> Iterator[bytes]:
    """Convert blocks of UTF-16 or UTF-32 to UTF-8; a truncated character gives an invalid byte."""
    decoder = codecs.getincrementaldecoder(charset)("surrogatepass")
    for block in blocks:
        yield decoder.decode(block).encode("utf-8", "surrogatepass")
    if decoder.getstate()[0]:
        yield b"\xff"


def _without_mark(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Return the blocks without a leading UTF-8 byte-order mark."""
    first = next(blocks, b"")
    return chain([first.removeprefix(UTF8_MARK)], blocks)

"""What no corpus looks like is told before it is read."""

import gzip
from pathlib import Path

import pytest

from mtrain.config.corpora import HubDataset, PairFiles, TableFile
from mtrain.text.checks import LONGEST_LINE, check_readable, looks_like_header

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:11\nsize 5\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"<!DOCTYPE html>\n<html><body>404", "an HTML page"),
        (b"\n  <HTML>\n<head>", "an HTML page"),
        (b"<html><body>403</body></html>", "an HTML page"),
        (b'<?xml version="1.0"?>\n<tmx version="1.4">', "an XML file"),
        (b"\x1b$B$3$l$O\x1b(B\n", "in an encoding of ISO-2022"),
        (b"a " * LONGEST_LINE, "its first line is longer than 1,048,576 bytes; one sentence a"),
        (b"one\rtwo\rthree\r", "its lines end in \\r alone"),
        (POINTER, "a git-lfs pointer"),
        (b"PK\x03\x04\x14\x00", "a zip archive"),
        (gzip.compress(b"text\n")[:-4], "damaged compressed file"),
    ],
)
def test_a_file_that_is_no_corpus_is_named_with_what_it_is(
    content: bytes, told: str, tmp_path: Path
) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    bad.write_bytes(content)
    good.write_bytes(b"text\n")
    [message] = check_readable(PairFiles(source=good, target=bad))
    assert message.startswith(f"{bad}: ")
    assert told in message
    table = tmp_path / "bad.tsv"
    table.write_bytes(content)
    assert told in check_readable(TableFile(path=table))[0]


@pytest.mark.parametrize(
    "content",
    [b"", b"one line", b"<html>a</html>\n<b>c</b>\n", b"<b>bold</b>\n", b"one\rline\n",
     b"a\n" + b"b " * LONGEST_LINE],
)  # fmt: skip
def test_text_that_may_be_a_corpus_is_let_through(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)
    assert check_readable(PairFiles(source=path, target=path)) == []


def test_a_local_data_set_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(POINTER)
    assert "a git-lfs pointer" in check_readable(TableFile(path=tmp_path / "train.parquet"))[0]
    assert "given as `path`" in check_readable(HubDataset(hub=str(tmp_path / "train.parquet")))[0]
    for nowhere in (str(tmp_path / "nowhere"), "./nowhere", "some/where/deep"):
        assert (
            f"{Path(nowhere)}: there is no such folder"
            in check_readable(HubDataset(hub=nowhere))[0]
        )
    assert check_readable(HubDataset(hub="owner/name")) == []


@pytest.mark.parametrize(
    ("source", "target", "is_header"),
    [
        ("source", "target", True),
        ("en", "de", True),
        ("EN", "De", True),
        ("English", "German", True),
        ("\ufeffsrc", "tgt", True),
        ("source_text", "target text", True),
        ("sentence (en)", "sentence (de)", True),
        ("A source", "Ziel", False),
        ("en", "Ein Satz.", False),
        ("", "", False),
        ("The teacher sells.", "Der Lehrer verkauft.", False),
    ],
)
def test_a_header_is_told_by_languages_and_words_for_columns(
    source: str, target: str, is_header: bool
) -> None:
    assert looks_like_header(source, target, ("en", "de_AT")) is is_header


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"<!doctype html><html>404", "this is an HTML page"),
        (gzip.compress(b"PAR1"), "no Parquet file, or one that was compressed as a whole"),
        (b"a\tb\n", "no Parquet file"),
    ],
)
def test_a_file_that_is_called_parquet_has_to_begin_as_one(
    content: bytes, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    [message] = check_readable(TableFile(path=path))
    assert message.startswith(f"{path}: ")
    assert told in message

"""`mtrain prepare` for real: its report, doing nothing twice, kills, limits and bad input."""

import bz2
import gzip
import json
import lzma
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from mtrain.config.tokenizer import TokenizerConfig
from mtrain.data.folders import DataFolder
from mtrain.text.tokenizer import train_tokenizer
from tests.cli.conftest import contents
from tests.cli.hostile import BoundCommandLine, on_a_small_disk
from tests.cli.warm import WarmCommandLine
from tests.conftest import CommandLine, Finished, succeed

Pairs = list[tuple[str, str]]

CUT_GZIP = gzip.compress(b"text\n" * 300, mtime=0)[:-9]  # the same in every test process

CONFIG = """\
run_dir: run
data:
  source_lang: en
  target_lang: de
  train: [{source: train.en, target: train.de}]
  valid: [{source: valid.en, target: valid.de}]
  test: [{name: news, source: test.en, target: test.de}]
tokenizer: {vocab_size: 320, train_sentences: 2000}
"""


def numbered(numbers: range) -> Pairs:
    """Return pairs that all differ."""
    return [(f"this is the text with number {n}", f"das ist Text Nummer {n}") for n in numbers]


def write_pairs(folder: Path, name: str, pairs: Pairs) -> None:
    for side, language in enumerate(("en", "de")):
        text = "".join(f"{pair[side]}\n" for pair in pairs)
        (folder / f"{name}.{language}").write_bytes(text.encode("utf-8", "surrogateescape"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small corpus and its configuration; what `mtrain` is started in."""
    write_pairs(tmp_path, "train", numbered(range(300)))
    write_pairs(tmp_path, "valid", numbered(range(1000, 1020)))
    write_pairs(tmp_path, "test", numbered(range(2000, 2010)))
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


def configure(folder: Path, old: str, new: str) -> None:
    assert CONFIG.count(old) == 1
    (folder / "config.yaml").write_text(CONFIG.replace(old, new))


def manifest(folder: Path) -> dict[str, Any]:
    return DataFolder(folder / "run" / "data").manifest()


def prepared(folder: Path) -> dict[str, Any]:
    """Return all that is in the data folder, without the time that it took."""
    files: dict[str, Any] = dict(contents(folder / "run" / "data"))
    told = json.loads(files.pop("manifest.json"))
    del told["seconds"]
    return {"manifest": told, **files}


def refused(finished: Finished) -> str:
    """Return the error of a command that ended as a user's error has to."""
    assert finished.code == 2, finished.err
    assert "Traceback" not in finished.err
    assert finished.err.startswith("error: ")
    assert finished.out == ""
    return finished.err


def left_behind(folder: Path) -> list[str]:
    """Return what is in the run folder besides the data and the lock."""
    names = {path.name for path in (folder / "run").glob("*")}
    return sorted(names - {"data", ".data.lock"})


# --- what it says and when it works


def test_the_report_tells_how_many_pairs_went_and_why(warm: WarmCommandLine, folder: Path) -> None:
    crafted: Pairs = [
        *numbered(range(100)),  # kept
        *numbered(range(30)),  # duplicate
        *numbered(range(1000, 1007)),  # also in valid
        *numbered(range(2000, 2002)),  # also in test
        ("this is the text with number 1019", "eine andere Übersetzung"),  # a source of valid
        *[(f"Berlin {n}", f"Berlin {n}") for n in range(11)],  # identical
        *[("", f"leer {n}") for n in range(5)],
        (" \u2028 \ufeff", "auch leer"),
        *[(f"kaputt \udcff {n}", f"defekt {n}") for n in range(4)],  # invalid UTF-8
        *[(f"long {n}", "lang und länger " * 300) for n in range(3)],
        *[(f"short {n}", "ein Text mit allzu vielen Wörtern und Zeichen darin") for n in range(2)],
    ]
    write_pairs(folder, "train", crafted)
    report = succeed(warm, "prepare", "config.yaml").out
    expected = {
        "kept": 101,
        "duplicate": 30,
        "overlap": 9,
        "identical": 11,
        "empty": 6,
        "invalid_utf8": 4,
        "length": 3,
        "ratio": 2,
    }
    [entry] = manifest(folder)["filtered"]
    assert {reason: count for reason, count in entry["counts"].items() if count} == expected
    assert sum(expected.values()) == len(crafted)
    for reason, count in expected.items():
        assert reason == "kept" or f"{count:,} dropped: {reason}, for example" in report
    for told in (
        f"train    101 pairs kept of {len(crafted)} read",
        "valid    20 pairs",
        "test     10 pairs in news",
        "vocabulary of 320",
        "overlap  10 training sources also stand in valid, watch or test",
        "corpus   train.en + train.de: 101 kept",
        "'Berlin 2'",  # three samples each, of the first
        "'' | 'leer 0'",
        "'kaputt \ufffd 0' | 'defekt 0'",
        "'this is the text with number 1000' | 'das ist Text Nummer 1000'",
    ):
        assert told in report
    assert "Berlin 3" not in report


SPACED = "«\u00a0oui\u00a0»\u202f? {} ，می\u200cداند"


def test_the_report_tells_what_the_tokenizer_cannot_write(
    warm: WarmCommandLine, folder: Path
) -> None:
    for name, numbers in (("train", range(300)), ("valid", range(300, 320))):
        write_pairs(folder, name, [(f"yes {n}", SPACED.format(n)) for n in numbers])
    report = succeed(warm, "prepare", "config.yaml").out
    assert "ceiling  none: the tokenizer can write every target line of valid, watch" in report
    data = DataFolder(folder / "run" / "data")
    store, target = data.store("train"), data.tokenizers().target
    assert target.decode([store.target.row(7)]) == [SPACED.format(7)]
    configure(folder, "vocab_size: 320", "vocab_size: 320, normalization: nmt_nfkc")
    finished = succeed(warm, "prepare", "config.yaml")
    assert "ceiling  valid: the tokenizer cannot write 20 of 20 target lines; at most BLEU" in (
        finished.out
    )
    folded = "« oui » ? 300 ,می داند"
    assert f"{SPACED.format(300)!r} becomes {folded!r}" in finished.out
    assert "normalization nmt_nfkc rewrites these; identity keeps" in finished.out
    told = manifest(folder)["ceilings"]
    assert told["news"] == {"lines": 10, "changed": 0}
    assert (told["valid"]["changed"], len(told["valid"]["examples"])) == (20, 3)
    assert 0 < told["valid"]["bleu"] < 60
    assert told["valid"]["chrf"] < 100
    assert succeed(warm, "prepare", "config.yaml").out == finished.out  # nothing to do


def test_an_unknown_language_is_said_when_data_are_prepared(
    warm: WarmCommandLine, folder: Path
) -> None:
    configure(folder, "target_lang: de", "target_lang: German")
    told = succeed(warm, "prepare", "config.yaml").err
    assert told.count("'German' is not a known language code") == 1
    assert "did you mean de (German)?" in told


def test_the_report_tells_what_is_odd_in_what_is_held_out(
    warm: WarmCommandLine, folder: Path
) -> None:
    """Nothing is left out of valid and test, so that all of it steers and is measured."""
    odd: Pairs = [*numbered(range(3000, 3010)), ("caf\udce9", "Caf\udce9"), ("", "leer"),
                  *[("Berlin", "Berlin")] * 3]  # fmt: skip
    for name, said_of_all in (
        ("valid", "valid    15 pairs"),
        ("test", "test     15 pairs in news"),
    ):
        write_pairs(folder, name, odd)
        finished = succeed(warm, "prepare", "config.yaml")
        set_name, files = ("news", "news") if name == "test" else (name, "valid.en + valid.de")
        expected = (
            f"{said_of_all}{', 1 of them left out of the dev loss' if name == 'valid' else ''}\n"
            f"         3 have the same text on both sides in {files}\n"
            f"         1 not UTF-8 in {files}, for example\n"
            "           'caf\ufffd' | 'Caf\ufffd'\n"
            f"         1 empty on a side in {files}, for example\n"
            "           '' | 'leer'\n"
        )
        assert expected in finished.out
        assert f"{files}: 1 of 15 pairs are not UTF-8, for example" in finished.err
        assert manifest(folder)["held_out"][set_name][0]["counts"]["invalid_utf8"] == 1
        assert "nothing to do" in succeed(warm, "prepare", "config.yaml").err


@pytest.mark.parametrize("name", ["valid", "test", "train"])
def test_text_in_another_encoding_is_refused_with_a_way_to_convert_it(
    name: str, warm: WarmCommandLine, folder: Path
) -> None:
    """And the way works."""
    path = folder / f"{name}.de"
    text = path.read_text().replace("Text", "Prüftext")
    path.write_bytes(text.encode("latin-1"))
    message = refused(warm("prepare", "config.yaml"))
    count = len(text.splitlines())
    corpus = "news" if name == "test" else f"{name}.en + {name}.de"
    assert f"{corpus}: {count} of {count} pairs are not UTF-8, for example" in message
    assert "Pr\ufffdftext" in message
    assert "iconv -f ENCODING -t UTF-8 FILE > NEW, where ENCODING is LATIN1," in message
    convert = ["iconv", "-f", "LATIN1", "-t", "UTF-8", path]
    path.write_bytes(subprocess.run(convert, capture_output=True, check=True).stdout)
    assert path.read_text() == text
    succeed(warm, "prepare", "config.yaml")


def test_filters_that_leave_nothing_tell_every_reason(warm: WarmCommandLine, folder: Path) -> None:
    write_pairs(folder, "train", [*[("Berlin", "Berlin")] * 3, ("", "leer"), *numbered([1000])])
    message = refused(warm("prepare", "config.yaml"))
    for told in (
        "3 of 5 pairs are the same on both sides, for example 'Berlin'",
        "1 of 5 pairs are empty on a side, for example '' | 'leer'",
        "1 of 5 pairs are also in valid, watch or test, for example 'this is the text with number",
    ):
        assert f"train.en + train.de: {told}" in message


def test_a_header_is_told(warm: WarmCommandLine, folder: Path) -> None:
    rows = [("source", "target"), *numbered(range(50))]
    (folder / "a.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in rows))
    configure(folder, "train: [{source: train.en, target: train.de}]", "train: [{path: a.tsv}]")
    finished = succeed(warm, "prepare", "config.yaml")
    assert "warning: a.tsv: the first pair looks like a header" in finished.err
    assert "the first looks like a header: 'source' | 'target'" in finished.out
    (folder / "a.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in rows[1:]))
    finished = succeed(warm, "prepare", "config.yaml")
    assert "header" not in finished.err + finished.out


def test_files_that_are_no_text_are_named_together(warm: WarmCommandLine, folder: Path) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:11\nsize 5\n"
    page = b"<!DOCTYPE html>\n<html><title>404</title>\n"
    bad = {"train.en": b"PK\x03\x04\x14\x00", "valid.de": pointer, "test.en": page}
    for name, content in bad.items():
        (folder / name).write_bytes(content)
    (folder / "my.model").write_bytes(pointer)
    message = refused(warm("prepare", "config.yaml"))
    assert "train.en: this is a zip archive" in message
    assert "valid.de: this is a git-lfs pointer" in message
    assert "git lfs pull" in message
    assert "test.en: this is an HTML page" in message
    for name in ("train", "valid", "test"):
        write_pairs(folder, name, numbered(range(len(name) * 100, len(name) * 100 + 50)))
    given = ("--set", "tokenizer.path=my.model")
    assert "my.model: this is a git-lfs" in refused(warm("prepare", "config.yaml", *given))


def test_text_that_is_not_split_into_sentences_is_refused(
    warm: WarmCommandLine, folder: Path
) -> None:
    for language in ("en", "de"):
        path = folder / f"train.{language}"
        path.write_text(path.read_text().replace("\n", " ") * 4 + "\n")
    message = refused(warm("prepare", "config.yaml"))
    assert "data.train: every line of the source is longer than 16,384 bytes; one sente" in message


@pytest.mark.parametrize("charset", ["utf-16", "utf-16-be", "utf-32-le"])
def test_text_in_utf_16_is_prepared_as_the_same_text_in_utf_8(
    charset: str, warm: WarmCommandLine, folder: Path
) -> None:
    succeed(warm, "prepare", "config.yaml")
    before = without_manifest(prepared(folder))
    for path in (*folder.glob("*.en"), *folder.glob("*.de")):
        path.write_bytes(bz2.compress(path.read_text().encode(charset)))
    assert "prepared in" in succeed(warm, "prepare", "config.yaml").err
    assert without_manifest(prepared(folder)) == before


def test_filters_can_be_turned_off(warm: WarmCommandLine, folder: Path) -> None:
    write_pairs(
        folder, "train", [*numbered(range(50)), *numbered(range(9)), *numbered(range(1000, 1003)),
                          *[("Berlin", "Berlin")] * 4]
    )  # fmt: skip
    for key, dropped in {
        "drop_duplicates": {"overlap": 3, "identical": 4},
        "drop_overlap": {"duplicate": 9, "identical": 4},
        "drop_identical": {"duplicate": 9 + 3, "overlap": 3},
    }.items():
        said = succeed(warm, "prepare", "config.yaml", "--set", f"data.filters.{key}=false").out
        assert ("3 with the same translation" in said) == (key == "drop_overlap")
        counts = manifest(folder)["filtered"][0]["counts"]
        assert {why: n for why, n in counts.items() if n and why != "kept"} == dropped


def test_a_second_run_does_nothing(warm: WarmCommandLine, folder: Path) -> None:
    first = succeed(warm, "prepare", "config.yaml")
    times = {path: path.stat().st_mtime_ns for path in (folder / "run").rglob("*")}
    second = succeed(warm, "prepare", "config.yaml")
    assert "run/data: prepared in " in first.err
    assert "run/data: nothing changed, nothing to do" in second.err
    assert second.out == first.out
    assert {path: path.stat().st_mtime_ns for path in (folder / "run").rglob("*")} == times


def test_what_does_not_change_the_data_does_not_rebuild_them(
    warm: WarmCommandLine, folder: Path
) -> None:
    succeed(warm, "prepare", "config.yaml")
    others = ["seed=2", "training.batch_tokens=99", "model.max_positions=300", "device=cpu"]
    settings = [word for other in others for word in ("--set", other)]
    assert "nothing to do" in succeed(warm, "prepare", "config.yaml", *settings).err
    (folder / "train.en").touch()
    assert "nothing to do" in succeed(warm, "prepare", "config.yaml").err


def swap_two_lines(folder: Path) -> list[str]:
    lines = (folder / "valid.de").read_text().split("\n")
    (folder / "valid.de").write_text("\n".join([lines[1], lines[0], *lines[2:]]))
    return []


def change_a_filter(folder: Path) -> list[str]:
    return ["--set", "data.filters.max_tokens=100"]


def change_the_tokenizer(folder: Path) -> list[str]:
    return ["--set", "tokenizer.type=unigram"]


def grow_the_test_set(folder: Path) -> list[str]:
    write_pairs(folder, "test", numbered(range(2000, 2011)))
    return []


@pytest.mark.parametrize(
    "change", [swap_two_lines, change_a_filter, change_the_tokenizer, grow_the_test_set]
)
def test_a_changed_input_or_setting_rebuilds(
    change: Callable[[Path], list[str]], warm: WarmCommandLine, folder: Path
) -> None:
    succeed(warm, "prepare", "config.yaml")
    before = prepared(folder)
    settings = change(folder)
    assert "prepared in" in succeed(warm, "prepare", "config.yaml", *settings).err
    after = prepared(folder)
    assert after != before
    shutil.rmtree(folder / "run")
    succeed(warm, "prepare", "config.yaml", *settings)
    assert prepared(folder) == after  # as if it had been the first
    assert left_behind(folder) == []


# --- what it reads


def test_corpora_of_every_kind_are_read_by_one_configuration(
    mtrain: CommandLine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(folder / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    kinds = {
        name: numbered(range(100 * n, 100 * n + 40 + n))
        for n, name in enumerate(["plain", "gz", "xz", "tsv", "json", "pq", "hub"])
    }
    write_pairs(folder, "plain", kinds["plain"])
    for name, compress in (("gz", gzip.compress), ("xz", lzma.compress)):
        write_pairs(folder, name, kinds[name])
        for language in ("en", "de"):
            path = folder / f"{name}.{language}"
            path.write_bytes(compress(path.read_bytes()))
    tsv = "".join(f"{number}\t{de}\t{en}\n" for number, (en, de) in enumerate(kinds["tsv"]))
    with pyarrow.OSFile(str(folder / "a.tsv.zst"), "wb") as file:
        file.write(pyarrow.compress(tsv.encode(), "zstd"))
    (folder / "a.jsonl").write_text(
        "".join(json.dumps({"t": {"en": en}, "out": de}) + "\n" for en, de in kinds["json"])
    )
    for name, path in (("pq", folder / "a.parquet"), ("hub", folder / "hub" / "train.parquet")):
        path.parent.mkdir(exist_ok=True)
        records = [{"translation": {"en": en, "de": de}} for en, de in kinds[name]]
        parquet.write_table(pyarrow.Table.from_pylist(records), path)
    train = """
  - {source: plain.en, target: plain.de}
  - {name: mine, source: gz.en, target: gz.de}
  - {source: xz.en, target: xz.de}
  - {path: a.tsv.zst, fields: [2, 1]}
  - {path: a.jsonl, fields: [t.en, out]}
  - {path: a.parquet}
  - {hub: hub, split: train}"""
    configure(folder, " [{source: train.en, target: train.de}]", train)
    report = succeed(mtrain, "prepare", "config.yaml").out
    names = ["plain.en + plain.de", "mine", "xz.en + xz.de", "a.tsv.zst", "a.jsonl", "a.parquet",
             "hub:train"]  # fmt: skip
    for number, name in enumerate(names):
        assert f"corpus   {name}: {40 + number} kept" in report
    store, tokenizers = (
        DataFolder(folder / "run" / "data").store("train"),
        DataFolder(folder / "run" / "data").tokenizers(),
    )
    ids = [(store.source.row(row), store.target.row(row)) for row in range(len(store))]
    sources = tokenizers.source.decode([source for source, _ in ids])
    targets = tokenizers.target.decode([target for _, target in ids])
    read = list(zip(sources, targets, strict=True))
    assert read == [pair for pairs in kinds.values() for pair in pairs]  # in order


def test_one_vocabulary_a_side(warm: WarmCommandLine, folder: Path) -> None:
    succeed(warm, "prepare", "config.yaml", "--set", "tokenizer.shared=false")
    data = DataFolder(folder / "run" / "data")
    assert sorted(path.name for path in (data.path / "tokenizer").iterdir()) == [
        "source.model",
        "target.model",
    ]
    tokenizers = data.tokenizers()
    for side, ours, other in (("source", "text", "Nummer"), ("target", "Nummer", "number")):
        tokenizer = getattr(tokenizers, side)
        short, long = (len(tokenizer.encode([word])[0]) for word in (ours, other))
        assert short < long  # each has learnt its own language
        first = getattr(data.store("train"), side).row(0)
        text = {"source": "this is the text with number 0", "target": "das ist Text Nummer 0"}
        assert tokenizer.decode([first]) == [text[side]]


def test_a_given_tokenizer_is_used_and_a_change_of_it_noticed(
    warm: WarmCommandLine, folder: Path
) -> None:
    def make(name: str, vocab_size: int) -> bytes:
        texts = [text for pair in numbered(range(500)) for text in pair]
        train_tokenizer(texts, TokenizerConfig(vocab_size=vocab_size), folder / name)
        return (folder / name).read_bytes()

    mine = make("my.model", 310)
    command = ["prepare", "config.yaml", "--set", "tokenizer.path=my.model"]
    assert "vocabulary of 310" in succeed(warm, *command).out
    tokenizer = folder / "run" / "data" / "tokenizer"
    assert (tokenizer / "shared.model").read_bytes() == mine
    assert "nothing to do" in succeed(warm, *command).err
    other = make("my.model", 305)
    assert "vocabulary of 305" in succeed(warm, *command).out
    make("source.model", 312)
    command[-1] = "tokenizer.path={source: source.model, target: my.model}"
    assert "vocabulary of 312" in succeed(warm, *command).out  # the larger
    assert (tokenizer / "target.model").read_bytes() == other
    assert not (tokenizer / "shared.model").exists()


def align(folder: Path, lines: list[str]) -> None:
    """Give train an alignments file."""
    text = "".join(f"{line}\n" for line in lines)
    (folder / "train.align.gz").write_bytes(gzip.compress(text.encode()))
    configure(folder, "target: train.de", "target: train.de, alignments: train.align.gz")


def test_links_between_words_become_links_between_their_tokens(
    warm: WarmCommandLine, folder: Path
) -> None:
    pairs = numbered(range(10, 310))
    pairs[2] = ("this\u200bis text with number 12", "das ist Text Nummer 12")  # a hidden blank
    write_pairs(folder, "train", pairs)
    align(folder, ["0-0 1-1 3-2", "6-4 0-1", "0-0", *["5-3"] * 297])
    aligned = (folder / "config.yaml").read_text()
    folding = aligned.replace("vocab_size: 320", "vocab_size: 320, normalization: nmt_nfkc")
    (folder / "config.yaml").write_text(folding)
    report = succeed(warm, "prepare", "config.yaml").out
    assert "nothing to do" in succeed(warm, "prepare", "config.yaml").err
    data = DataFolder(folder / "run" / "data")
    store, tokenizer = data.store("train"), data.tokenizers().source
    assert [tokenizer.pieces(side.row(1)) for side in (store.source, store.target)] == [
        ["▁this", "▁is", "▁the", "▁text", "▁with", "▁number", "▁1", "1"],
        ["▁das", "▁ist", "▁Text", "▁Nummer", "▁1", "1"],
    ]
    assert store.links is not None
    assert [store.links.of_pair(row) for row in range(4)] == [
        [(0, 0), (1, 1), (3, 2)],
        [(6, 4), (6, 5), (7, 4), (7, 5), (0, 1)],
        [],
        [(5, 3)],
    ]
    assert data.store("valid").links is None
    told = {"count": 3 + 5 + 297, "pairs": 299, "lost": 1}
    assert manifest(folder)["splits"]["train"]["links"] == told
    assert "links    305 between the tokens of 299 pairs; 1 pairs lost theirs: clean" in report


def test_other_links_are_other_data(warm: WarmCommandLine, folder: Path) -> None:
    succeed(warm, "prepare", "config.yaml")
    plain = prepared(folder)
    align(folder, ["0-0"] * 300)
    succeed(warm, "prepare", "config.yaml")
    first = prepared(folder)
    (folder / "train.align.gz").write_bytes(gzip.compress(b"0-0\n" * 299 + b"0-1\n"))
    assert "prepared in" in succeed(warm, "prepare", "config.yaml").err
    second = prepared(folder)
    fingerprints = {found["manifest"]["splits"]["train"]["fingerprint"]
                    for found in (plain, first, second)}  # fmt: skip
    assert len(fingerprints) == 3
    assert {name for name in first if first[name] != second[name]} == {
        "manifest",
        "train/links.tokens",
    }
    (folder / "config.yaml").write_text(CONFIG)
    succeed(warm, "prepare", "config.yaml")
    assert prepared(folder) == plain


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (["0-0"] * 299, "train.en has 300 lines but train.de has 300 and train.align.gz has 299"),
        (["0-0", "0:0", *["0-0"] * 298], "train.align.gz:2: '0:0' is not a link"),
        (
            [*["0-0"] * 299, "6-4 7-4"],
            "train.align.gz:300: the link 7-4 leaves its pair: source word 7 of 7",
        ),
    ],
)
def test_bad_links_are_named_and_leave_nothing(
    lines: list[str], error: str, warm: WarmCommandLine, folder: Path
) -> None:
    align(folder, lines)
    assert error in refused(warm("prepare", "config.yaml"))
    assert left_behind(folder) == []
    (folder / "train.align.gz").unlink()
    assert "train.align.gz: there is no such file" in refused(warm("prepare", "config.yaml"))


def test_links_where_they_are_of_no_use_are_refused(warm: WarmCommandLine, folder: Path) -> None:
    configure(folder, "target: valid.de", "target: valid.de, alignments: valid.align")
    message = refused(warm("prepare", "config.yaml"))
    assert "config.yaml:6: data.valid: alignments belong to data.train" in message
    (folder / "config.yaml").write_text(CONFIG)
    align(folder, ["0-0"] * 300)
    sampling = ["--set", "training.subword_sampling=0.1"]
    message = refused(warm("prepare", "config.yaml", *sampling))
    assert "training.subword_sampling cannot be used with alignments in data.train" in message


# --- kills, limits, two at once


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus that takes half a second to prepare, prepared undisturbed."""
    folder = tmp_path_factory.mktemp("large")
    write_pairs(folder, "train", numbered(range(3000, 18_000)))
    write_pairs(folder, "valid", numbered(range(1000, 1020)))
    write_pairs(folder, "test", numbered(range(2000, 2010)))
    (folder / "config.yaml").write_text(CONFIG)
    succeed(CommandLine(folder), "prepare", "config.yaml")
    return folder


def kill_at_random(mtrain: CommandLine, random_moment: random.Random, *settings: str) -> bool:
    """Kill a `prepare` at some moment of its building; return whether it was still building."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    run = mtrain.folder / "run"
    before = set(run.glob(".data.building-*"))  # of one that was killed
    with mtrain.start("prepare", "config.yaml", *settings, **quiet) as process:
        while process.poll() is None and not set(run.glob(".data.building-*")) - before:
            time.sleep(0.001)
        time.sleep(random_moment.uniform(0, float((mtrain.folder / "seconds").read_text())))
        process.kill()
        process.wait()
    return process.returncode == -signal.SIGKILL


@pytest.fixture
def unprepared(tmp_path: Path, large: Path) -> Path:
    """The large corpus in the test's own folder."""
    for path in large.iterdir():
        if path.is_file():
            (tmp_path / path.name).hardlink_to(path)
    (tmp_path / "seconds").write_text(str(manifest(large)["seconds"]))
    return tmp_path


def test_a_killed_prepare_is_never_taken_for_finished(
    mtrain: CommandLine, unprepared: Path, large: Path
) -> None:
    whole, random_moment, num_killed = prepared(large), random.Random(1), 0
    data = unprepared / "run" / "data"
    for _ in range(40):
        if num_killed == 5:
            break
        num_killed += kill_at_random(mtrain, random_moment)
        if data.exists():  # it had come to its end
            assert prepared(unprepared) == whole
            shutil.rmtree(data)
    assert num_killed == 5
    assert left_behind(unprepared)  # what the last one could not clear away
    succeed(mtrain, "prepare", "config.yaml")
    assert prepared(unprepared) == whole
    assert left_behind(unprepared) == []


def test_a_signal_ends_it_with_nothing_left_behind(mtrain: CommandLine, unprepared: Path) -> None:
    with mtrain.start("prepare", "config.yaml", stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not list((unprepared / "run").glob(".data.building-*")):
            time.sleep(0.001)
        process.terminate()
    assert process.returncode == 143
    assert not (unprepared / "run" / "data").exists()
    assert left_behind(unprepared) == []


def without_manifest(found: dict[str, Any]) -> dict[str, Any]:
    return {name: content for name, content in found.items() if name != "manifest"}


def test_a_rebuild_that_is_killed_leaves_the_old_data_whole_or_none(
    mtrain: CommandLine, unprepared: Path, large: Path
) -> None:
    shutil.copytree(large / "run", unprepared / "run")
    old, random_moment, num_killed = prepared(large), random.Random(2), 0
    stands = old
    for max_tokens in range(100, 130):  # no line is that long: only the manifest will differ
        if num_killed == 4:
            break
        setting = ("--set", f"data.filters.max_tokens={max_tokens}")
        num_killed += kill_at_random(mtrain, random_moment, *setting)
        if (unprepared / "run" / "data").exists():  # else killed between the two renames
            found = prepared(unprepared)
            filters = found["manifest"]["settings"]["data"].get("filters", {})
            assert found == stands or filters.get("max_tokens", 250) == max_tokens
            assert without_manifest(found) == without_manifest(old)
            stands = found
    assert num_killed == 4
    succeed(mtrain, "prepare", "config.yaml", "--set", "data.filters.max_tokens=130")
    assert without_manifest(prepared(unprepared)) == without_manifest(old)
    assert left_behind(unprepared) == []


def test_a_second_prepare_at_the_same_time_is_refused_and_harms_nothing(
    mtrain: CommandLine, unprepared: Path, large: Path
) -> None:
    process = mtrain.start("prepare", "config.yaml")
    while not list((unprepared / "run").glob(".data.building-*")):
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGSTOP)
    second = mtrain("prepare", "config.yaml")
    process.send_signal(signal.SIGCONT)
    assert "run/data: another `mtrain prepare` is at work here" in refused(second)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert prepared(unprepared) == prepared(large)


def test_a_file_too_large_for_the_system_ends_it_cleanly(
    mtrain: CommandLine, unprepared: Path, large: Path
) -> None:
    limit = (100_000, 100_000)
    process = mtrain.start(
        "prepare",
        "config.yaml",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    _, said = process.communicate()
    assert process.returncode == 2
    assert said.decode().endswith("run/data: File too large\n")
    assert left_behind(unprepared) == []
    succeed(mtrain, "prepare", "config.yaml")
    assert prepared(unprepared) == prepared(large)


def test_a_full_disk_ends_it_cleanly(unprepared: Path, large: Path) -> None:
    size = sum(path.stat().st_size for path in (large / "run").rglob("*")) // 1024
    prepare = f"{sys.executable} -m mtrain prepare config.yaml --set data_dir=disk/data"
    for kilobytes in (8, size // 8, size // 2, size - 100):
        full = on_a_small_disk(unprepared, kilobytes, prepare)
        assert full.code == 2
        assert full.err.startswith("error: ")
        assert "disk/data: the disk is full" in full.err
        assert full.err.endswith("the disk is full; nothing that was complete is lost\n")
        assert [path.name for path in (unprepared / "copy").iterdir()] == [".data.lock"]
    assert on_a_small_disk(unprepared, 4 * size, prepare).code == 0


MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
unit = 1024 if sys.platform == "darwin" else 1
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // unit)
sys.exit(code)
"""


def peak_kilobytes(folder: Path) -> int:
    """Return the peak memory of `prepare`, measured from a small process: a child inherits it."""
    command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "mtrain", "prepare"]
    return int(subprocess.check_output([*command, "config.yaml"], cwd=folder))


def test_memory_does_not_grow_with_the_corpus(folder: Path) -> None:
    def prepare(count: int) -> int:
        filling = "and so on " * 8
        write_pairs(folder, "train", [(f"{n} {filling}", f"{n} {filling}.") for n in range(count)])
        return peak_kilobytes(folder)

    small, large = prepare(20_000), prepare(160_000)
    text = sum((folder / f"train.{language}").stat().st_size for language in ("en", "de"))
    assert text > 25_000_000
    assert large - small < 10_000  # kilobytes, of 25,000 that the text takes


# --- what a user gets wrong


def test_all_missing_files_are_named_at_once(warm: WarmCommandLine, folder: Path) -> None:
    for name in ("train.en", "valid.de", "test.en"):
        (folder / name).unlink()
    message = refused(warm("prepare", "config.yaml", "--set", "tokenizer.path=my.model"))
    for name in ("train.en", "valid.de", "test.en"):
        assert f"{name}: there is no such file (looked in {folder})" in message
    assert "my.model: there is no such SentencePiece model" in message
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("train.de", b"one line\n", "train.en has 300 lines but train.de has 1"),
        ("valid.en", b"a\n" * 21, "valid.en has 21 lines but valid.de has 20"),
        ("train.en", b"", "train.en has 0 lines but train.de has 300"),
        ("train.en", CUT_GZIP, "train.en: damaged compressed file"),
        ("my.model", b"no model", "error: my.model: this is not a SentencePiece model"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(
    name: str, content: bytes, error: str, warm: WarmCommandLine, folder: Path
) -> None:
    (folder / name).write_bytes(content)
    settings = ["--set", "tokenizer.path=my.model"] if name == "my.model" else []
    assert error in refused(warm("prepare", "config.yaml", *settings))
    assert not (folder / "run" / "data").exists()
    assert left_behind(folder) == []


def test_bad_input_leaves_older_data_as_they_are(warm: WarmCommandLine, folder: Path) -> None:
    succeed(warm, "prepare", "config.yaml")
    before = contents(folder / "run")
    (folder / "train.de").write_text("one line\n")
    refused(warm("prepare", "config.yaml"))
    assert contents(folder / "run") == before


def test_a_bad_configuration_is_told_with_all_its_errors(
    warm: WarmCommandLine, folder: Path
) -> None:
    configure(folder, "vocab_size: 320", "vocab_sise: 320, type: words")
    message = refused(warm("prepare", "config.yaml", "--set", "modle.d_model=5"))
    assert "config.yaml:8: unknown key tokenizer.vocab_sise; did you mean vocab_size?" in message
    assert "config.yaml:8: tokenizer.type: input should be 'bpe' or 'unigram'" in message
    assert "--set modle.d_model: unknown key modle; did you mean model?" in message
    assert "nowhere.yaml: there is no such configuration" in refused(
        warm("prepare", "nowhere.yaml")
    )
    assert "Is a directory" in refused(warm("prepare", "."))


def test_a_folder_that_is_not_mtrains_is_refused_and_left_alone(
    warm: WarmCommandLine, folder: Path
) -> None:
    data = folder / "run" / "data"
    data.mkdir(parents=True)
    succeed(warm, "prepare", "config.yaml")  # an empty one is no matter
    shutil.rmtree(data)
    data.mkdir()
    (data / "thesis.txt").write_text("years of work")
    assert "run/data: this folder exists and is not mtrain's" in refused(
        warm("prepare", "config.yaml")
    )
    assert contents(data) == {"thesis.txt": b"years of work"}
    shutil.rmtree(data)
    data.write_text("a file")
    assert "run/data" in refused(warm("prepare", "config.yaml"))
    assert data.read_text() == "a file"


def test_data_of_another_version_or_with_a_damaged_manifest_are_refused(
    warm: WarmCommandLine, folder: Path
) -> None:
    succeed(warm, "prepare", "config.yaml")
    path = folder / "run" / "data" / "manifest.json"
    path.write_text(path.read_text()[:100])
    assert "manifest.json: damaged\nremove the folder" in refused(warm("prepare", "config.yaml"))
    path.write_text('{"format": 0}')
    assert "prepared by another version" in refused(warm("prepare", "config.yaml"))


def test_a_data_folder_may_be_a_link(warm: WarmCommandLine, folder: Path) -> None:
    (folder / "disk").mkdir()
    (folder / "link").symlink_to(folder / "disk" / "mine")
    command = ["prepare", "config.yaml", "--set", "data_dir=link"]
    for settings in ([], ["--set", "tokenizer.vocab_size=310"]):
        assert "link: prepared in" in succeed(warm, *command, *settings).err
        assert (folder / "link").is_symlink()
        assert DataFolder(folder / "disk" / "mine").manifest()
    assert sorted(path.name for path in (folder / "disk").iterdir()) == [".mine.lock", "mine"]


def test_a_folder_without_write_permission_is_named(bound: BoundCommandLine, folder: Path) -> None:
    (folder / "run").mkdir(mode=0o500)
    message = refused(bound("prepare", "config.yaml"))
    assert "run/.data.lock: no permission (Permission denied)" in message


def test_a_file_without_read_permission_is_named(bound: BoundCommandLine, folder: Path) -> None:
    (folder / "train.de").chmod(0)
    message = refused(bound("prepare", "config.yaml"))
    assert "train.de: no permission (Permission denied)" in message
    assert not (folder / "run" / "data").exists()


# --- how fast it answers


ANSWERS = {"help": ["--help"], "version": ["--version"], "bad config": ["train", "config.yaml"],
           "help of a verb": ["translate", "--help"]}  # fmt: skip


@pytest.mark.parametrize(
    "arguments", [*ANSWERS.values(), ["prepare", "good.yaml"]], ids=[*ANSWERS, "prepare"]
)
def test_what_needs_no_torch_does_not_import_it(arguments: list[str], folder: Path) -> None:
    (folder / "good.yaml").write_text(CONFIG)
    configure(folder, "vocab_size", "vocab_sise")
    command = [sys.executable, "-X", "importtime", "-m", "mtrain", *arguments]
    imports = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    names = {line.split("|")[-1].strip() for line in imports.stderr.splitlines()}
    assert "mtrain.cli" in names
    assert not {"torch", "datasets", "transformers", "sacrebleu"} & names
    if arguments in ANSWERS.values():
        assert not {"numpy", "sentencepiece", "pandas", "pyarrow"} & names

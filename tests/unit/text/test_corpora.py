"""Corpora of every kind give the same pairs, and a bad one is named with file and line."""

import bz2
import contextlib
import gzip
import json
import lzma
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from mtrain.config.corpora import AlignedPairFiles, Corpus, HubDataset, PairFiles, TableFile
from mtrain.errors import UserError
from mtrain.text.checks import check_readable
from mtrain.text.corpora import corpus_name, input_digests, read_pairs, read_training_pairs
from mtrain.text.records import RawPair
from tests.unit.text.test_lines import zstandard

LANGUAGES = ("en", "de")
TEXT = [("a dog", "ein Hund"), ("", "leer"), ("two\u2028lines\rhere", "grün ß"), ("x", "y")]
PAIRS = [(source.encode(), target.encode()) for source, target in TEXT]
RECORDS = [{"en": source, "de": target} for source, target in TEXT]


def lines(items: list[str]) -> bytes:
    return "".join(f"{item}\n" for item in items).encode()


def write_parquet(path: Path, records: list[Any]) -> Path:
    parquet.write_table(pyarrow.Table.from_pylist(records), path)
    return path


def read(corpus: Corpus) -> list[RawPair]:
    return list(read_pairs(corpus, LANGUAGES))


def fail(corpus: Corpus) -> str:
    """Return what a reader says that has to refuse a corpus."""
    with pytest.raises(UserError) as caught:
        read(corpus)
    return str(caught.value)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local data set in the Hub's layout, with two configurations, and a cache of its own."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "hub"
    (folder / "de-en").mkdir(parents=True)
    translations = [{"translation": record} for record in RECORDS]
    write_parquet(folder / "de-en" / "train-00000-of-00001.parquet", translations)
    write_parquet(folder / "de-en" / "validation-00000-of-00001.parquet", translations[:1])
    (folder / "fr-en").mkdir()
    write_parquet(
        folder / "fr-en" / "train-00000-of-00001.parquet",
        [{"translation": {"en": "a dog", "fr": "un chien"}}],
    )
    (folder / "README.md").write_text(
        "---\nconfigs:\n"
        + "".join(
            f"- config_name: {name}\n  data_files:\n"
            + "".join(f"  - {{split: {split}, path: '{name}/{split}-*'}}\n" for split in splits)
            for name, splits in {"de-en": ["train", "validation"], "fr-en": ["train"]}.items()
        )
        + "---\n"
    )
    return folder


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress, zstandard])
def test_pair_files_give_their_pairs(compress: Any, tmp_path: Path) -> None:
    source, target = tmp_path / "a.en", tmp_path / "a.de"
    source.write_bytes(compress(lines([source for source, _ in TEXT])))
    target.write_bytes(compress(lines([target for _, target in TEXT])))
    assert read(PairFiles(source=source, target=target)) == PAIRS


@pytest.mark.parametrize("kind", ["tsv", "tsv.gz", "tsv.xz", "tsv.zst", "TSV.bz2"])
def test_a_tsv_gives_its_first_two_columns_or_those_asked_for(kind: str, tmp_path: Path) -> None:
    compress: Any = {"gz": gzip.compress, "xz": lzma.compress, "zst": zstandard,
                     "bz2": bz2.compress}.get(kind[4:], bytes)  # fmt: skip
    path = tmp_path / f"a.{kind}"
    path.write_bytes(compress(lines([f"{source}\t{target}\tmore" for source, target in TEXT])))
    assert read(TableFile(path=path)) == PAIRS
    assert read(TableFile(path=path, fields=(2, 0))) == [(b"more", source) for source, _ in PAIRS]


@pytest.mark.parametrize(
    ("records", "fields"),
    [
        (RECORDS, None),
        ([{"translation": record, "id": 1} for record in RECORDS], None),
        ([{"english": record["en"], "german": record["de"]} for record in RECORDS],
         ("english", "german")),
        ([{"text": {"src": r["en"]}, "out": {"to": {"de": r["de"]}}} for r in RECORDS],
         ("text.src", "out.to.de")),
        ([{"a.b": record["en"], "de": record["de"]} for record in RECORDS], ("a.b", "de")),
    ],
    ids=["languages", "translation", "fields", "nested fields", "field with a dot"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "parquet"])
def test_records_give_the_two_languages_or_the_fields_asked_for(
    kind: str, records: list[Any], fields: tuple[str, str] | None, tmp_path: Path
) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        write_parquet(path, records)
    else:
        plain = lines([json.dumps(record, ensure_ascii=False) for record in records])
        path.write_bytes(gzip.compress(plain) if kind.endswith("gz") else plain)
    assert read(TableFile(path=path, fields=fields)) == PAIRS


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "hub"])
def test_a_text_that_is_null_or_missing_is_empty(kind: str, tmp_path: Path) -> None:
    records = [{"translation": {"en": "a dog", "de": "ein Hund"}, "id": 1},
               {"translation": {"en": "x", "de": None}}, {"translation": None}]  # fmt: skip
    pairs = [(b"a dog", b"ein Hund"), (b"x", b""), (b"", b"")]
    corpus: Corpus = TableFile(path=tmp_path / f"a.{kind}")
    if kind == "jsonl":
        more = [{"translation": {"de": "y"}}, {"id": 4}, {"translation": {"en": "z", "de": "z"}}]
        (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [*records, *more])))
        pairs += [(b"", b"y"), (b"", b""), (b"z", b"z")]
    elif kind == "parquet":
        write_parquet(tmp_path / "a.parquet", records)
    else:
        write_parquet(tmp_path / "train.parquet", records)
        corpus = HubDataset(hub=str(tmp_path))
    assert read(corpus) == pairs


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\r\n\r\n", "\n  \n"])
def test_blank_lines_at_the_end_of_a_table_are_no_rows(end: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in RECORDS) + end, newline="")
    assert read(TableFile(path=path)) == PAIRS
    path = tmp_path / "a.tsv"
    path.write_text("a\tb\n\t\n\tc" + end.replace("  ", ""), newline="")
    cells = [(source, target.rstrip(b"\r")) for source, target in read(TableFile(path=path))]
    assert cells == [(b"a", b"b"), (b"", b""), (b"", b"c")]


def test_columns_that_nobody_asked_for_are_not_read(tmp_path: Path) -> None:
    """A date after the year 9999 has no counterpart in Python; nor has a column to be whole."""
    table = pyarrow.table(
        {
            "en": [source for source, _ in TEXT],
            "when": pyarrow.array([10_000_000] * len(TEXT), pyarrow.date32()),
            "de": pyarrow.array([target for _, target in TEXT]).dictionary_encode(),
            "more": [{"en": "other", "deep": {"de": target}} for _, target in TEXT],
        }
    )
    parquet.write_table(table, tmp_path / "train.parquet")
    for corpus in (TableFile(path=tmp_path / "train.parquet"), HubDataset(hub=str(tmp_path))):
        assert read(corpus) == PAIRS
        nested = corpus.model_copy(update={"fields": ("more.en", "more.deep.de")})
        assert read(nested) == [(b"other", target) for _, target in PAIRS]
        for wrong, told in (
            ("when", "field when is not text but date32"),
            ("whom", "there is no field whom (here: en, when, de, more)"),
            ("more", "field more is not text but struct"),
        ):
            assert told in fail(corpus.model_copy(update={"fields": ("en", wrong)}))


def test_a_column_that_a_parquet_file_has_twice_is_named(tmp_path: Path) -> None:
    table = pyarrow.table([["a"], ["b"], ["c"]], names=["en", "de", "en"])
    parquet.write_table(table, tmp_path / "a.parquet")
    assert "several columns are called en" in fail(TableFile(path=tmp_path / "a.parquet"))


def test_bytes_in_a_parquet_file_are_text_and_may_be_no_utf_8(tmp_path: Path) -> None:
    for kind in (pyarrow.binary(), pyarrow.large_binary()):
        columns = {
            "en": pyarrow.array([b"a", None], kind),
            "de": pyarrow.array([b"\xff", b""], kind),
        }
        parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
        assert read(TableFile(path=tmp_path / "a.parquet")) == [(b"a", b"\xff"), (b"", b"")]
    strings = pyarrow.array([b"\xff"]).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"en": strings, "de": ["b"]}), tmp_path / "a.parquet")
    assert read(TableFile(path=tmp_path / "a.parquet")) == [(b"\xff", b"b")]


def test_a_data_set_may_name_its_columns(tmp_path: Path) -> None:
    records = [{"source": record["en"], "to": {"de": record["de"]}} for record in RECORDS]
    write_parquet(tmp_path / "train.parquet", records)
    corpus = HubDataset(hub=str(tmp_path), fields=("source", "to.de"))
    assert read(corpus) == PAIRS
    message = fail(HubDataset(hub=str(tmp_path)))
    assert "there is no field en (here: source, to)\nname the two columns with `fields" in message


def test_a_data_set_in_the_home_folder_is_found(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read(HubDataset(hub="~/hub", config="de-en")) == PAIRS


def test_a_data_set_that_was_not_fetched_is_named_and_one_fetched_in_part_is_read(
    hub: Path,
) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:11\nsize 5\n"
    (hub / "fr-en" / "train-00000-of-00001.parquet").write_bytes(pointer)
    assert read(HubDataset(hub=str(hub), config="de-en")) == PAIRS
    message = fail(HubDataset(hub=str(hub), config="fr-en"))
    assert "train-00000-of-00001.parquet: this is a git-lfs pointer" in message
    assert "git lfs pull" in message


def test_what_save_to_disk_wrote_is_read(tmp_path: Path) -> None:
    import datasets

    saved = datasets.Dataset.from_list(RECORDS)
    saved.save_to_disk(tmp_path / "one")
    assert read(HubDataset(hub=str(tmp_path / "one"))) == PAIRS
    several = datasets.DatasetDict({"train": saved, "dev": saved.select([0])})
    several.save_to_disk(tmp_path / "several")
    assert read(HubDataset(hub=str(tmp_path / "several"))) == PAIRS
    assert read(HubDataset(hub=str(tmp_path / "several"), split="dev")) == PAIRS[:1]
    message = fail(HubDataset(hub=str(tmp_path / "several"), split="test"))
    assert "it has no split test, but train, dev" in message


def test_a_configuration_that_was_not_named_is_asked_for_in_our_terms(hub: Path) -> None:
    message = fail(HubDataset(hub=str(hub)))
    assert "name one of its configurations as `config`: 'de-en', 'fr-en'" in message
    assert "load_dataset" not in message


def test_json_may_hold_any_text(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"en": "a\\nb", "de": "\\u0000"}\n{"en": "\\ud800", "de": "x"}')
    # a line end is for the filters and the cleaning; half a surrogate is no valid UTF-8
    assert read(TableFile(path=path)) == [(b"a\nb", b"\x00"), (b"\xed\xa0\x80", b"x")]


def test_a_local_folder_in_the_layout_of_the_hub_gives_its_pairs(hub: Path) -> None:
    german = HubDataset(hub=str(hub), config="de-en")
    assert read(german) == PAIRS
    assert read(german.model_copy(update={"split": "validation"})) == PAIRS[:1]
    french = list(read_pairs(HubDataset(hub=str(hub), config="fr-en"), ("en", "fr")))
    assert french == [(b"a dog", b"un chien")]
    message = fail(HubDataset(hub=str(hub), config="fr-en"))
    assert f"{hub}:fr-en:train: there is no field de (here: en, fr)" in message


@pytest.mark.parametrize(
    "wrong",
    [{"hub": "/no/such/folder"}, {"config": "xx-yy"}, {"split": "tset"}],
    ids=["folder", "configuration", "split"],
)
def test_a_data_set_that_cannot_be_loaded_is_named(wrong: dict[str, str], hub: Path) -> None:
    corpus = HubDataset.model_validate({"hub": str(hub), "config": "de-en", **wrong})
    message = fail(corpus)
    assert f"data set {corpus_name(corpus)}: cannot be loaded" in message
    assert "check hub, config and split" in message


def test_a_damaged_file_of_a_local_folder_is_named(hub: Path) -> None:
    (hub / "de-en" / "train-00000-of-00001.parquet").write_bytes(b"PAR1 no more")
    assert f"data set {hub}:de-en:train: cannot be loaded" in fail(
        HubDataset(hub=str(hub), config="de-en")
    )


def test_a_changed_local_folder_is_read_anew(hub: Path) -> None:
    # the cache of `datasets` would give the old pairs here
    corpus = HubDataset(hub=str(hub), config="de-en")
    assert read(corpus) == PAIRS
    before = input_digests(corpus)
    assert input_digests(corpus) == before
    write_parquet(
        hub / "de-en" / "train-00000-of-00001.parquet",
        [{"translation": {"en": "another", "de": "anderer"}}],
    )
    assert input_digests(corpus) != before
    assert read(corpus) == [(b"another", b"anderer")]


def test_two_local_folders_of_one_name_are_two(hub: Path, tmp_path: Path) -> None:
    # the cache of `datasets` would give the first one's pairs for both
    other = tmp_path / "other" / hub.name
    shutil.copytree(hub, other)
    assert read(HubDataset(hub=str(hub), config="de-en")) == PAIRS
    translation = {"translation": {"en": "another", "de": "anderer"}}
    write_parquet(other / "de-en" / "train-00000-of-00001.parquet", [translation])
    assert read(HubDataset(hub=str(other), config="de-en")) == [(b"another", b"anderer")]


@pytest.mark.parametrize(("num_sources", "num_targets"), [(3, 5), (5, 3), (0, 1), (20_001, 20_000)])
def test_unequal_line_counts_are_told_with_both_files(
    num_sources: int, num_targets: int, tmp_path: Path
) -> None:
    source, target = tmp_path / "a.en", tmp_path / "a.de"
    source.write_bytes(b"x\n" * num_sources)
    target.write_bytes(b"y\n" * num_targets)
    message = fail(PairFiles(source=source, target=target))
    assert f"{source} has {num_sources} lines but {target} has {num_targets}\n" in message


def aligned(folder: Path, links: bytes, pairs: list[RawPair] | None = None) -> AlignedPairFiles:
    """Write a corpus with links between its words."""
    pairs = PAIRS if pairs is None else pairs
    paths = {key: folder / f"a.{key}" for key in ("source", "target", "alignments")}
    for side, key in enumerate(("source", "target")):
        paths[key].write_bytes(b"".join(pair[side] + b"\n" for pair in pairs))
    paths["alignments"].write_bytes(links)
    return AlignedPairFiles(**paths)


def read_linked(corpus: Corpus) -> list[Any]:
    return [(pair, links) for pair, links, _ in read_training_pairs(corpus, LANGUAGES)]


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress, zstandard])
def test_links_are_read_beside_their_pairs(compress: Any, tmp_path: Path) -> None:
    corpus = aligned(tmp_path, compress(b"0-0 1-1\n\n2-1 0-0 2-1\r\n0-0\n"))
    links = [[(0, 0), (1, 1)], [], None, [(0, 0)]]  # the third line has words that are unclear
    assert read_linked(corpus) == list(zip(PAIRS, links, strict=True))
    assert read(corpus) == PAIRS


def test_pairs_without_an_alignments_file_have_no_links(tmp_path: Path) -> None:
    corpus = aligned(tmp_path, b"").model_copy(update={"alignments": None})
    table = tmp_path / "a.jsonl"
    table.write_text("\n".join(map(json.dumps, RECORDS)))
    for unaligned in (corpus, TableFile(path=table)):
        assert read_linked(unaligned) == [(pair, []) for pair in PAIRS]


@pytest.mark.parametrize(
    "counts", [(3, 3, 2), (3, 3, 4), (2, 3, 3), (3, 2, 3), (1, 2, 3), (0, 0, 1)]
)
def test_unequal_line_counts_are_told_with_all_three_files(
    counts: tuple[int, int, int], tmp_path: Path
) -> None:
    corpus = aligned(tmp_path, b"0-0\n" * counts[2])
    corpus.source.write_bytes(b"x\n" * counts[0])
    corpus.target.write_bytes(b"y\n" * counts[1])
    with pytest.raises(UserError) as caught:
        read_linked(corpus)
    told = f"{corpus.source} has {counts[0]} lines but {corpus.target} has {counts[1]}"
    assert f"{told} and {corpus.alignments} has {counts[2]}\n" in str(caught.value)


def test_a_bad_link_is_named_with_file_and_line(tmp_path: Path) -> None:
    corpus = aligned(tmp_path, b"0-0\n\n3-0\n0-0\n")
    with pytest.raises(UserError) as caught:
        read_linked(corpus)
    assert f"{corpus.alignments}:3: the link 3-0 leaves its pair: source word 3 of 3" in str(
        caught.value
    )


@pytest.mark.parametrize(
    ("name", "content", "fields", "expected"),
    [
        ("a.tsv", b"a\tb\nonly one\n", None, "a.tsv:2: 1 columns, column 1"),
        ("a.tsv", b"a\tb\n\nc\td\n", None, "a.tsv:2: 1 columns, column 1"),
        ("a.tsv", b"a\tb\n", (0, 2), "a.tsv:1: 2 columns, column 2"),
        ("a.tsv", b"a\tb\n", ("en", "de"), "a TSV's fields are column numbers from 0"),
        ("a.tsv", b"a\tb\n", (-3, 0), "a TSV's fields are column numbers from 0"),
        ("a.jsonl", b'{"en": "a", "de": "b"}\n{"en": "a"\n', None, "a.jsonl:2: not JSON ("),
        ("a.jsonl", b'{"en": "a", "de": "b"}\n\n{}\n', None, "a.jsonl:2: not JSON ("),
        ("a.jsonl", b'{"en": "\xff", "de": "b"}\n', None, "a.jsonl:1: not JSON ("),
        ("a.jsonl", b"[" * 100_000, None, "a.jsonl:1: not JSON ("),
        ("a.jsonl", b'["a", "b"]\n', None, "a.jsonl:1: there is no field en (here: list)"),
        ("a.jsonl", b"null\n", None, "a.jsonl:1: there is no field en (here: NoneType)"),
        ("a.jsonl", b'{"en": "a", "fr": "b"}', None, "1: there is no field de (here: en, fr)"),
        ("a.jsonl", b'{"a": {"c": "d"}}', ("a.b", "a.c"), "no field a.b (here: c)"),
        ("a.jsonl", b'{"en": "a", "de": 5}', None, "a.jsonl:1: field de is not text but 5"),
        ("a.jsonl", b'{"en": "a", "d": "b"}\n' * 3, None, "1: there is no field de (here: en, d)"),
        ("a.txt", b"a\tb\n", None, "its kind cannot be told from its name"),
        ("a.zip", b"a\tb\n", None, "its kind cannot be told from its name"),
        ("a.parquet", b"a\tb\n", None, "a.parquet: not a readable Parquet file"),
        ("a.parquet", b"", None, "a.parquet: not a readable Parquet file"),
    ],
)
def test_a_bad_table_is_named_with_its_line(
    name: str,
    content: bytes,
    fields: tuple[str | int, str | int] | None,
    expected: str,
    tmp_path: Path,
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    message = fail(TableFile(path=path, fields=fields))
    assert str(path) in message
    assert expected in message


def test_a_parquet_file_damaged_anywhere_is_named_or_read_never_a_crash(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", RECORDS * 200)
    whole = path.read_bytes()
    num_refused = 0
    for place in range(4, len(whole) - 8, max(1, len(whole) // 40)):
        path.write_bytes(whole[:place] + b"\xff" * 8 + whole[place + 8 :])
        with contextlib.suppress(UserError):
            read(TableFile(path=path))
            continue
        num_refused += 1
    assert num_refused > 10
    path.write_bytes(whole[: len(whole) // 2])
    assert "not a readable Parquet file" in fail(TableFile(path=path))


def test_a_parquet_file_without_the_field_is_named(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", RECORDS)
    for fields in (("en.text", "de"), ("en", "german")):
        assert f"{path}: there is no field" in fail(TableFile(path=path, fields=fields))


def test_what_is_missing_is_told_before_anything_is_read(tmp_path: Path) -> None:
    source, target = tmp_path / "a.en", tmp_path / "a.de"
    source.touch()
    assert check_readable(PairFiles(source=source, target=source)) == []
    [message] = check_readable(PairFiles(source=source, target=target))
    assert message == f"{target}: there is no such file (looked in {Path.cwd()})"
    assert check_readable(PairFiles(source=target, target=target)) == [message]
    assert len(check_readable(PairFiles(source=target, target=tmp_path / "b.de"))) == 2
    aligned = AlignedPairFiles(source=source, target=source, alignments=tmp_path / "a.align")
    assert check_readable(aligned) == [
        f"{tmp_path / 'a.align'}: there is no such file (looked in {Path.cwd()})"
    ]
    assert check_readable(TableFile(path=tmp_path)) == [
        f"{tmp_path}: this is a folder, a file was expected"
    ]
    os.mkfifo(tmp_path / "pipe")  # as of <(zcat a.gz)
    [message] = check_readable(PairFiles(source=source, target=tmp_path / "pipe"))
    assert message.startswith(f"{tmp_path / 'pipe'}: a pipe can be read only once")
    assert "there is no such file" in fail(TableFile(path=tmp_path / "a.parquet"))


def test_the_digest_of_an_input_follows_its_content_not_its_time(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(b"a\tb\n")
    before = input_digests(TableFile(path=path))
    path.write_bytes(b"a\tb\n")
    assert input_digests(TableFile(path=path)) == before
    path.write_bytes(b"a\tc\n")  # as long as before
    assert input_digests(TableFile(path=path)) != before


def test_the_links_of_a_corpus_are_among_its_inputs(tmp_path: Path) -> None:
    corpus = aligned(tmp_path, b"0-0\n")
    source, target, _ = before = input_digests(corpus)
    assert input_digests(corpus.model_copy(update={"alignments": None})) == [source, target]
    aligned(tmp_path, b"0-1\n")
    assert input_digests(corpus) != before


def test_a_corpus_is_called_by_its_name_or_by_where_it_lies() -> None:
    assert corpus_name(TableFile(path=Path("a.tsv"), name="mine")) == "mine"
    assert corpus_name(TableFile(path=Path("a.tsv"))) == "a.tsv"
    assert corpus_name(PairFiles(source=Path("a.en"), target=Path("a.de"))) == "a.en + a.de"
    assert corpus_name(HubDataset(hub="books", config="de-en")) == "books:de-en:train"


def test_links_of_a_line_with_a_no_break_space_are_not_guessed(tmp_path: Path) -> None:
    """Others split words at plain spaces only, so that a link there counts differently."""
    files = {"source": "10\u00a0km weit\nplain text\n", "target": "zehn km\nreiner Text\n",
             "alignments": "1-1\n1-1\n"}  # fmt: skip
    paths = {side: tmp_path / side for side in files}
    for side, text in files.items():
        paths[side].write_text(text)
    found = list(read_training_pairs(AlignedPairFiles(**paths), ("", "")))
    assert [links for _, links, _ in found] == [None, [(1, 1)]]


def with_documents(folder: Path, documents: str, texts: tuple[str, str]) -> AlignedPairFiles:
    """Write a corpus of documents; `documents` is empty_lines, or what its file of ids holds."""
    paths = [folder / name for name in ("source", "target", "ids")]
    for path, text in zip(paths, (*texts, documents), strict=True):
        path.write_text(text)
    ends = documents if documents == "empty_lines" else paths[2]
    return AlignedPairFiles(source=paths[0], target=paths[1], documents=ends)


def test_documents_end_at_lines_that_are_empty_on_both_sides(tmp_path: Path) -> None:
    texts = "a\nb\n\n\nc\n\r\nd\n", "A\nB\n \n\n\n\nD\n"
    corpus = with_documents(tmp_path, "empty_lines", texts)
    found = [(pair, document) for pair, _, document in read_training_pairs(corpus, LANGUAGES)]
    assert [pair for pair, _ in found] == list(read_pairs(corpus, LANGUAGES))
    assert found == [((b"a", b"A"), 0), ((b"b", b"B"), 0), ((b"c", b""), 2), ((b"d", b"D"), 3)]


def test_documents_have_ids_beside_their_lines(tmp_path: Path) -> None:
    corpus = with_documents(tmp_path, "x 1\nx 1 \ny\n", ("a\n\nc\n", "A\nB\nC\n"))
    found = [(pair, document) for pair, _, document in read_training_pairs(corpus, LANGUAGES)]
    assert found == [((b"a", b"A"), 0), ((b"", b"B"), 0), ((b"c", b"C"), 1)]
    assert len(input_digests(corpus)) == 3  # other ids are other data


@pytest.mark.parametrize(
    ("ids", "error"),
    [
        ("x\nx\n", "/ids has 2"),
        ("x\nx\nx\ny\n", "/ids has 4"),
        ("x\ny\nx\n", "/ids:3: document x comes back after another one; it began in line 1"),
        ("x\n \nx\n", "/ids:2: no document id"),
    ],
)
def test_document_ids_that_do_not_fit_are_refused_with_their_line(
    ids: str, error: str, tmp_path: Path
) -> None:
    corpus = with_documents(tmp_path, ids, ("a\nb\nc\n", "A\nB\nC\n"))
    for read in (read_pairs, read_training_pairs):
        with pytest.raises(UserError) as caught:
            list(read(corpus, LANGUAGES))
        assert f"{tmp_path}{error}" in str(caught.value)

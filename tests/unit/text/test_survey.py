"""What `init` finds in a corpus: counts, estimates that hold, languages, dirt; and names."""

import json
from itertools import pairwise
from pathlib import Path

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from mtrain.errors import UserError
from mtrain.text import survey as module
from mtrain.text.naming import Codes, code_of_file, find_corpus
from mtrain.text.records import RawPair
from mtrain.text.survey import find_dirt, languages_of, survey, tokens_of

ENGLISH = "The dog runs across the street because it has seen the other dog."
GERMAN = "Der Hund läuft über die Straße, weil er den anderen Hund gesehen hat."


def numbered(number: int, target: str = GERMAN) -> list[RawPair]:
    return [(f"{ENGLISH} {n}".encode(), f"{target} {n}".encode()) for n in range(number)]


def test_a_small_corpus_is_counted_exactly() -> None:
    pairs = [*numbered(500), *numbered(100), *numbered(50, "Ein anderer Satz."),
             (b"\xff", b"x"), (b"same", b"same"), (b"", b"empty")]  # fmt: skip
    found = survey(pairs)
    assert (found.num_pairs, found.num_sources, found.num_duplicates) == (653, 503, 100)
    assert [found.sample.count(fault) for fault in ("invalid_utf8", "identical", "empty")] == [
        1
    ] * 3
    assert len(found.sample.kept().sources) == 650


def test_a_large_corpus_is_estimated_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE_PAIRS", 100)
    monkeypatch.setattr(module, "COUNTED_HASHES", 2000)
    monkeypatch.setattr(module, "BLOCK_PAIRS", 33)
    found = survey(pair for pair in numbered(10_000) for _ in range(2))
    assert found.num_pairs == 20_000
    assert found.num_sources == pytest.approx(10_000, rel=0.1)
    assert found.num_duplicates == pytest.approx(10_000, rel=0.1)
    assert 100 <= len(found.sample.sources) <= 200
    numbers = [int(source.split()[-1]) for source in found.sample.sources]
    steps = {after - before for before, after in pairwise(numbers)}
    assert len(steps) == 1  # evenly spaced


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "not one pair"),
        ([(b"\xff\xfe", b"x")] * 3, "3 of 3 pairs are not UTF-8"),
        ([(b"a", b"")] * 3 + [(b"a", b"b")], "3 of 4 pairs are empty on a side"),
        ([(b"a", b"a")] * 3 + [(b"a", b"b")], "3 of 4 pairs are the same on both sides"),
        ([(b"a", b"")] * 2 + [(b"a", b"a")] * 2,
         "none of 4 pairs can be used: 2 are empty on a side, 2 are the same on both sides"),
        ([(b"\xff", b"b"), (b"a", b""), (b"a", b"a")],
         "none of 3 pairs .*: 1 are not UTF-8, 1 are empty on a side, 1 are the same"),
    ],
)  # fmt: skip
def test_a_corpus_of_no_use_is_refused(pairs: list[RawPair], message: str) -> None:
    with pytest.raises(UserError, match=message):
        survey(pairs)


def test_languages_come_from_names_and_are_compared_with_the_text() -> None:
    pytest.importorskip("py3langid")
    sample = survey(numbered(50)).sample
    confirmed = languages_of(sample, ("en", "de"))
    assert [(side.code, side.seen, side.is_doubtful) for side in confirmed] == [
        ("en", "en", False), ("de", "de", False)
    ]  # fmt: skip
    assert [side.code for side in languages_of(sample, (None, None))] == ["en", "de"]
    assert [side.is_doubtful for side in languages_of(sample, ("de", "deu"))] == [True, False]


def test_languages_that_nothing_tells_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = survey([(b"1", b"2")] * 5).sample
    monkeypatch.setattr(module, "is_installed", lambda: False)
    assert [side.code for side in languages_of(sample, ("en", "de"))] == ["en", "de"]
    with pytest.raises(UserError, match=r"(?s)the language of the target cannot.*--target"):
        languages_of(sample, ("en", None))


def test_dirt_is_counted_by_check() -> None:
    pairs = [
        *numbered(100),
        *((f"a line of text {n}".encode(), f"eine Zeile {n + 20}".encode()) for n in range(20, 30)),
        (b"<b>bold</b> text", b"fetter Text"),
        (b"An example for us", b"Ein Beispiel"),
        (b"an example for us!", b"Ein Beispiel..."),
    ]
    found = {check: count for check, count, _ in find_dirt(survey(pairs).sample, ("en", "de"))}
    assert (found["numbers"], found["html"], found["near_duplicates"]) == (10, 1, 1)


def test_text_without_spaces_is_measured_in_characters() -> None:
    sample = survey([(b"Das ist ein Satz", "这是一个句子。".encode())] * 3).sample
    assert tokens_of(sample, ("de", "zh")) == pytest.approx((4 * 1.3, 7 * 0.7))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("train.en", "en"), ("train.de-en.de.gz", "de"), ("x.zho_Hans", "zho_Hans"),
        ("x.zh-TW.xz", "zh-TW"), ("x.DE", "de"), ("train.txt", None), ("train.src", None),
        ("train", None), ("x.gz", None), ("x.words", None), ("train.no", "no"),
    ],
)  # fmt: skip
def test_the_end_of_a_files_name_may_be_a_code(name: str, code: str | None) -> None:
    assert code_of_file(Path(name)) == code


ROW = {"en": "A dog.", "de": "Ein Hund.", "id": "7", "n": 3}


def write_jsonl(folder: Path, row: object) -> str:
    (folder / "x.jsonl").write_text(json.dumps(row) + "\n")
    return str(folder / "x.jsonl")


@pytest.mark.parametrize(
    ("row", "given", "languages", "fields"),
    [
        (ROW, (None, None), ("en", "de"), None),
        (ROW, ("de", None), ("de", "en"), None),
        (ROW, (None, "en"), ("de", "en"), None),
        ({"translation": {"de": "x", "fr": "y"}, "en": "z"}, (None, None), ("de", "fr"), None),
        (ROW | {"fr": "Un chien."}, ("fr", "en"), ("fr", "en"), None),
        ({"source": "a", "target": "b", "url": "c"}, ("en", "de"), ("en", "de"),
         ["source", "target"]),
        ({"left": "a", "right": "b"}, (None, None), (None, None), ["left", "right"]),
    ],
)  # fmt: skip
def test_the_fields_of_a_table_tell_sides_and_languages(
    row: object, given: Codes, languages: Codes, fields: list[str] | None, tmp_path: Path
) -> None:
    found = find_corpus([write_jsonl(tmp_path, row)], given)
    assert found.languages == languages
    assert found.keys.get("fields") == fields


@pytest.mark.parametrize(
    ("row", "given", "message"),
    [
        (ROW | {"fr": "x"}, (None, None), "texts in 3 languages: en, de, fr"),
        (ROW, ("fr", "de"), "in the fields en and de, not fr and de"),
        ({"a": "1", "b": "2", "c": "3"}, (None, None), "cannot be told: a, b, c"),
        ([1], (None, None), "a JSON object a line is expected"),
    ],
)
def test_fields_that_tell_nothing_are_refused(
    row: object, given: Codes, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        find_corpus([write_jsonl(tmp_path, row)], given)


def test_parquet_and_a_hub_folder_are_read_by_their_columns(tmp_path: Path) -> None:
    table = pyarrow.table({"n": [1], "de": ["x"], "en": ["y"]})
    parquet.write_table(table, tmp_path / "x.parquet")
    rows = [{"translation": {"de": "x", "en": "y"}}]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "hub"))
    for name, key in (("x.parquet", "path"), ("hub", "hub")):
        found = find_corpus([str(tmp_path / name)], (None, None))
        assert found.languages == ("de", "en")
        assert found.keys == {key: str(tmp_path / name)}

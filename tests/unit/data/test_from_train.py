"""Held-out sets taken from train: what is chosen, what leaves train, and what stays as it was."""

import json
import random
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from mtrain.config import Config
from mtrain.config.corpora import MonolingualText
from mtrain.data import from_train
from mtrain.data.builder import DataBuilder
from mtrain.data.from_train import _Choice, _Count
from mtrain.data.identity import describe_inputs
from mtrain.data.report import describe_manifest
from mtrain.data.store import TokenStore
from mtrain.errors import UserError
from mtrain.text.characters import Texts
from mtrain.text.filters import text_hashes
from mtrain.text.lines import file_digest
from mtrain.text.normal import normal_hashes, normalise
from mtrain.text.tokenizer import Tokenizer

Pair = tuple[str, str]


def numbered(numbers: Iterable[int]) -> list[Pair]:
    return [(f"this is number {n}", f"das ist Nummer {n}") for n in numbers]


def translated_twice(numbers: Iterable[int]) -> list[Pair]:
    """Return two pairs for each number; the sources differ in case and punctuation alone."""
    return [
        pair
        for n in numbers
        for pair in (
            (f"This is number {n}.", f"Das ist Nummer {n}."),
            (f"this is... number {n}", f"Nummer {n} ist das"),
        )
    ]


def pair_files(folder: Path, name: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    """Write the two files of a corpus."""
    for side in (0, 1):
        text = "".join(f"{pair[side]}\n" for pair in pairs)
        (folder / f"{name}.{side}").write_bytes(text.encode("utf-8", "surrogateescape"))
    return {"source": folder / f"{name}.0", "target": folder / f"{name}.1"}


def aligned_files(folder: Path, name: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    (folder / f"{name}.align").write_text("0-0 1-1\n" * len(pairs))
    return pair_files(folder, name, pairs) | {"alignments": folder / f"{name}.align"}


def tsv(folder: Path, name: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    (folder / f"{name}.tsv").write_text("".join(f"{s}\t{t}\n" for s, t in pairs))
    return {"path": folder / f"{name}.tsv"}


def jsonl(folder: Path, name: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    rows = (json.dumps({"en": source, "de": target}) for source, target in pairs)
    (folder / f"{name}.jsonl").write_text("".join(f"{row}\n" for row in rows))
    return {"path": folder / f"{name}.jsonl"}


def parquet_file(folder: Path, name: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    sources, targets = map(list, zip(*pairs, strict=True))
    parquet.write_table(pyarrow.table({"en": sources, "de": targets}), folder / f"{name}.parquet")
    return {"path": folder / f"{name}.parquet"}


def hub_folder(folder: Path, name: str, pairs: Sequence[Pair]) -> dict[str, Any]:
    rows = [{"translation": {"en": source, "de": target}} for source, target in pairs]
    datasets.Dataset.from_list(rows).save_to_disk(str(folder / name))
    return {"hub": str(folder / name)}


def configure(folder: Path, train: Sequence[dict[str, Any]], **data: Any) -> Config:
    """Return a configuration that takes 20 sources for valid and 10 for test."""
    languages = {"source_lang": "en", "target_lang": "de"}
    return Config.model_validate(
        {
            "run_dir": folder / "run",
            "data": {
                **languages,
                "train": train,
                "valid": {"from_train": 20},
                "test": {"from_train": 10},
                **data,
            },
            "tokenizer": {"vocab_size": 320, "normalization": "nmt_nfkc"},
        }
    )


class Built:
    """A data folder, read back as text."""

    def __init__(self, config: Config, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.manifest, _ = DataBuilder(config, folder).build(describe_inputs(config))

    def text(self, name: str) -> list[Pair]:
        sides = [(self.folder / "text" / f"{name}.{side}").read_text().splitlines()
                 for side in ("source", "target")]  # fmt: skip
        return list(zip(*sides, strict=True))

    def train(self) -> list[Pair]:
        about = self.manifest["splits"]["train"]
        tokenizer = Tokenizer(self.folder / "tokenizer" / "shared.model")
        store = TokenStore(
            self.folder / "train", about["columns"], about["vocab_size"], about["fingerprint"]
        )
        sides = [tokenizer.decode([side.row(row) for row in range(len(store))])
                 for side in (store.source, store.target)]  # fmt: skip
        return list(zip(*sides, strict=True))

    def counts(self) -> list[dict[str, int]]:
        return [{reason: count for reason, count in entry["counts"].items() if count}
                for entry in self.manifest["filtered"]]  # fmt: skip


def sources_of(pairs: Iterable[Pair]) -> set[str]:
    return {normalise(source) for source, _ in pairs}


@pytest.mark.parametrize(
    "write", [pair_files, aligned_files, tsv, jsonl, parquet_file, hub_folder],
    ids=lambda write: write.__name__,
)  # fmt: skip
def test_so_many_sources_leave_train_with_all_their_pairs(write: Any, tmp_path: Path) -> None:
    train = [write(tmp_path, "a", translated_twice(range(150))),
             write(tmp_path, "b", translated_twice(range(100, 200)))]  # fmt: skip
    built = Built(configure(tmp_path, train), tmp_path / "data")
    valid, test, kept = built.text("valid"), built.text("test"), built.train()
    assert (len(valid), len(test)) == (20, 10)  # one pair each, of two
    chosen = sources_of(valid) | sources_of(test)
    assert len(chosen) == 30
    assert not chosen & sources_of(kept)
    assert chosen | sources_of(kept) == sources_of(numbered(range(200)))
    held_out = sum(counts["held_out"] for counts in built.counts())
    assert held_out == 2 * (30 + len(chosen & sources_of(numbered(range(100, 150)))))
    for entry, number in zip(built.manifest["filtered"], (300, 200), strict=True):
        assert sum(entry["counts"].values()) == number
        assert len(entry["samples"]["held_out"]) == 3
    assert set(valid + test) <= set(translated_twice(range(200))[::2])  # the first of the two
    assert built.manifest["train_sources_also_in_valid_or_test"] == 0
    report = describe_manifest(built.manifest)
    assert "valid    20 pairs taken from train\n" in report
    assert "test     10 pairs taken from train in test\n" in report
    assert "dropped: held_out, for example" in report


def test_the_choice_does_not_depend_on_the_order_of_corpora_and_lines(tmp_path: Path) -> None:
    pairs, chosen = numbered(range(300)), []
    for seed in range(3):
        random.Random(seed).shuffle(pairs)
        train = [pair_files(tmp_path, f"{seed}.{part}", pairs[part::2]) for part in range(2)]
        built = Built(configure(tmp_path, train), tmp_path / f"data{seed}")
        chosen.append((built.text("valid"), built.text("test")))
    assert chosen[0] == chosen[1] == chosen[2]


def test_a_growing_corpus_keeps_most_of_the_choice_and_moves_nothing_between_the_sets(
    tmp_path: Path,
) -> None:
    before: tuple[set[Pair], set[Pair]] = set(), set()
    for number in (200, 220, 1000):
        train = [pair_files(tmp_path, "a", numbered(range(number)))]
        built = Built(configure(tmp_path, train), tmp_path / f"data{number}")
        valid, test = set(built.text("valid")), set(built.text("test"))
        assert not before[0] & test
        assert not before[1] & valid
        if number == 220:  # a tenth more: about as much of the choice changes
            assert len(before[0] & valid) >= 15
            assert len(before[1] & test) >= 7
        before = valid, test


def test_a_set_does_not_depend_on_the_other(tmp_path: Path) -> None:
    train = [pair_files(tmp_path, "a", numbered(range(300)))]
    both = Built(configure(tmp_path, train), tmp_path / "both")
    alone = Built(configure(tmp_path, train, test=[]), tmp_path / "alone")
    assert alone.text("valid") == both.text("valid")
    assert alone.manifest["tests"] == {}
    given = [pair_files(tmp_path, "valid", numbered(range(1000, 1005)))]
    of_test = Built(configure(tmp_path, train, valid=given), tmp_path / "of-test")
    assert of_test.text("test") == both.text("test")
    assert "valid    5 pairs\n" in describe_manifest(of_test.manifest)


def test_sources_that_a_given_set_contains_are_not_chosen(tmp_path: Path) -> None:
    train = [pair_files(tmp_path, "a", numbered(range(300)))]
    first = Built(configure(tmp_path, train), tmp_path / "first")
    given = [(source.upper() + "!", target) for source, target in first.text("valid")[:7]]
    sets = [pair_files(tmp_path, "given", given) | {"name": "given"}]
    for key in ("watch", "test"):
        built = Built(configure(tmp_path, train, **{key: sets}), tmp_path / key)
        assert len(built.text("valid")) == 20
        assert not sources_of(built.text("valid")) & sources_of(given)
        assert first.text("valid")[7:] == built.text("valid")[:13]


@pytest.mark.parametrize("drops_identical", [True, False])
def test_a_source_is_chosen_for_its_first_pair_that_passes_the_filters(
    drops_identical: bool, tmp_path: Path
) -> None:
    texts = [f"Text {n}" for n in range(400)]
    bad = [pair for text in texts
           for pair in ((text, ""), (text, "kaputt \udcff"), (text, text))]  # fmt: skip
    good = [(text.lower(), f"gut {text}") for text in texts[:100]]
    train = [pair_files(tmp_path, "a", [*bad, *good])]
    filters = {"drop_identical": drops_identical}
    built = Built(configure(tmp_path, train, filters=filters), tmp_path / "data")
    chosen = built.text("valid") + built.text("test")
    assert len(chosen) == 30
    assert all(pair in (good if drops_identical else bad) for pair in chosen)
    (counts,) = built.counts()
    assert counts["empty"] == counts["invalid_utf8"] == 400
    also_good = {text.lower() for text in texts[:100]} & {source.lower() for source, _ in chosen}
    assert counts["held_out"] == 30 + (0 if drops_identical else len(also_good))


def test_a_pair_that_fails_a_check_is_not_held_out(tmp_path: Path) -> None:
    bad = [(f"this is number {n}", f"das ist <b>Nummer</b> {n + 50}") for n in range(300)]
    train = [pair_files(tmp_path, "a", [*bad, *numbered(range(200))])]
    filters = {"checks": ["numbers", "html", "near_duplicates"]}
    built = Built(configure(tmp_path, train, filters=filters), tmp_path / "data")
    assert set(built.text("valid") + built.text("test")) <= set(numbered(range(200)))
    (counts,) = built.counts()
    assert (counts["html"], counts["held_out"]) == (300, 30)


def test_each_direction_has_a_pair_of_each_source_that_it_has(tmp_path: Path) -> None:
    train = [
        pair_files(tmp_path, "de", numbered(range(200))),
        pair_files(tmp_path, "fr", [(source, f"c'est {n}") for n, (source, _) in
                                    enumerate(numbered(range(100, 300)), 100)])
        | {"target_lang": "fr"},
        pair_files(tmp_path, "back", [(t, s) for s, t in numbered(range(150, 250))])
        | {"source_lang": "de", "target_lang": "en"},
    ]  # fmt: skip
    for corpus in train:
        corpus.setdefault("source_lang", "en")
        corpus.setdefault("target_lang", "de")
    tree = configure(tmp_path, [train[0]]).model_dump()
    tree["data"] |= {"train": train, "source_lang": None, "target_lang": None,
                     "valid": {"from_train": 60}, "test": {"from_train": 60}}  # fmt: skip
    tree["tokenizer"] |= {"source_prefix": "<2{target_lang}>"}
    built = Built(Config.model_validate(tree), tmp_path / "data")
    parts = built.manifest["splits"]["valid"]["parts"]
    assert [(part["corpus"], part["source_lang"], part["target_lang"]) for part in parts] == [
        ("from train en-de", "en", "de"), ("from train en-fr", "en", "fr"),
        ("from train de-en", "de", "en"),
    ]  # fmt: skip
    valid = built.text("valid")
    assert len(valid) == sum(part["lines"] for part in parts)
    assert len(sources_of(valid)) == 60
    ends = [0, parts[0]["lines"], parts[0]["lines"] + parts[1]["lines"], len(valid)]
    of_part = [valid[start:end] for start, end in pairwise(ends)]
    for pairs, corpus in zip(of_part, train, strict=True):
        assert len(sources_of(pairs)) == len(pairs)
        lines = corpus["source"].read_text().splitlines()
        assert sources_of(pairs) == sources_of(valid) & set(map(normalise, lines))
    assert built.manifest["tests"].keys() == {"test-en-de", "test-en-fr", "test-de-en"}
    tests = [pair for name in built.manifest["tests"] for pair in built.text(name)]
    assert len(sources_of(tests)) == 60
    held_out, left = sources_of(tests) | sources_of(valid), built.train()
    assert not held_out & sources_of(left)
    assert not held_out & sources_of(pair[::-1] for pair in left)  # as in the other direction


def test_back_translated_text_is_never_held_out_but_gives_up_the_chosen_sources(
    tmp_path: Path,
) -> None:
    text = tmp_path / "mono.de"
    text.write_text("".join(f"{target}\n" for _, target in numbered(range(400))))
    train = [pair_files(tmp_path, "a", numbered(range(100))),
             {"text": text, "lang": "de", "name": "mono"}]  # fmt: skip
    config = configure(tmp_path, train)
    mono = config.data.train[1]
    assert isinstance(mono, MonolingualText)
    translations = config.translation_of(mono)
    translations.parent.mkdir(parents=True)
    translations.write_text("".join(f"{source.upper()}\n" for source, _ in numbered(range(400))))
    made_from = translations.with_name("mono.en.json")
    made_from.write_text(json.dumps({"text": file_digest(text)}))
    built = Built(config, tmp_path / "data")
    assert set(built.text("valid") + built.text("test")) <= set(numbered(range(100)))
    assert [counts["held_out"] for counts in built.counts()] == [30, 30]


def test_a_choice_does_not_depend_on_how_the_reading_was_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = [pair_files(tmp_path, "a", translated_twice(range(300)))]
    whole = Built(configure(tmp_path, train), tmp_path / "whole")
    monkeypatch.setattr(from_train, "BLOCK_PAIRS", 7)
    cut = Built(configure(tmp_path, train), tmp_path / "cut")
    for name in ("valid", "test"):
        assert cut.text(name) == whole.text(name)


def test_memory_grows_with_the_choice_and_not_with_the_corpus() -> None:
    choice, count, most = _Choice(50), _Count(100), 0
    hashes = text_hashes([f"text {n}" for n in range(100_000)]).view("uint64")
    for start in range(0, len(hashes), 1000):
        block = hashes[start : start + 1000]
        choice.offer(block, [(b"", b"")] * len(block), ("en", "de"))
        count.add(block)
        most = max(most, len(choice.pairs))
    choice.prune()
    assert sorted(choice.pairs) == sorted(hashes.tolist())[:50]
    assert count.lowest.tolist() == sorted(hashes.tolist())[:100]
    assert most <= 100


SMALL = numbered(range(59))


@pytest.mark.parametrize(
    ("pairs", "sets", "message", "hint"),
    [
        (SMALL, {}, "data.valid.from_train: 20 and data.test.from_train: 10: data.train has 59 "
         "different sources",
         "ask for 29 or less together, at most 20 in data.valid and 10 in data.test"),
        (SMALL * 2, {}, "has 59 different", "ask for 29 or less together"),
        (SMALL, {"test": [], "valid": {"from_train": 30}},
         "data.valid.from_train: 30: data.train has 59",
         "set data.valid.from_train to 24 or less, or name text files"),  # of that half
        ([("same", "same"), ("", "leer")], {}, "has 0 different", "look at the corpora"),
        ([], {}, "has 0 different", "look at the corpora"),
    ],
)  # fmt: skip
def test_too_few_sources_are_refused_with_their_count(
    pairs: list[Pair], sets: dict[str, Any], message: str, hint: str, tmp_path: Path
) -> None:
    config = configure(tmp_path, [pair_files(tmp_path, "a", pairs)], **sets)
    with pytest.raises(UserError) as caught:
        Built(config, tmp_path / "data")
    assert message in str(caught.value)
    assert hint in str(caught.value.hint)


def by_set(number: int) -> tuple[list[Pair], list[Pair]]:
    """Return pairs whose sources may go to valid, and others that may go to test."""
    valid, test = ([pair for pair in numbered(range(1000))
                    if normal_hashes(Texts([pair[0]]))[0] % 2 == bit][:number]
                   for bit in (0, 1))  # fmt: skip
    return valid, test


@pytest.mark.parametrize(
    ("numbers", "sizes", "hint"),
    [
        ((100, 4), (20, 10), "set data.test.from_train to 4 or less"),
        ((57, 43), (None, 51), "set data.test.from_train to 43 or less"),
        ((57, 43), (None, 9000), "set data.test.from_train to 43 or less"),
        ((57, 43), (51, None), "set data.valid.from_train to 50 or less"),
        ((80, 20), (25, 30), "set data.test.from_train to 20 or less"),
        ((30, 70), (40, 40), "ask for 50 or less together, at most 30 in data.valid and 40 in "
         "data.test"),
        ((60, 4), (31, 9), "ask for 32 or less together, at most 31 in data.valid and 4 in "
         "data.test"),
    ],
)  # fmt: skip
def test_the_limit_that_is_advised_can_be_followed(
    numbers: tuple[int, int], sizes: tuple[int | None, int | None], hint: str, tmp_path: Path
) -> None:
    valid, test = by_set(100)
    train = [pair_files(tmp_path, "a", valid[: numbers[0]] + test[: numbers[1]])]
    given = pair_files(tmp_path, "given", [("another text", "ein anderer Text")])

    def asked(*sizes: int | None) -> Config:
        sets = ([given] if size is None else {"from_train": size} for size in sizes)
        return configure(tmp_path, train, **dict(zip(("valid", "test"), sets, strict=True)))

    with pytest.raises(UserError) as caught:
        Built(asked(*sizes), tmp_path / "data")
    assert caught.value.hint == f"{hint}, or name text files in its place"
    limits = {key: int(size) for key, size in
              re.findall(r"data\.(valid|test)\.from_train to (\d+)", hint)}  # fmt: skip
    limits |= {key: int(size) for size, key in re.findall(r"(\d+) in data\.(valid|test)", hint)}
    most = [limits.get(key, size) for key, size in zip(("valid", "test"), sizes, strict=True)]
    choices = [most]
    if together := re.search(r"(\d+) or less together", hint):  # all that one set may have
        total = int(together[1])
        choices = [[limits["valid"], total - limits["valid"]],
                   [total - limits["test"], limits["test"]]]  # fmt: skip
    for number, followed in enumerate(choices):
        built = Built(asked(*followed), tmp_path / f"followed{number}")
        for key, size in zip(("valid", "test"), followed, strict=True):
            assert size is None or len(built.text(key)) == size


def test_a_set_without_one_source_is_refused(tmp_path: Path) -> None:
    config = configure(tmp_path, [pair_files(tmp_path, "a", by_set(100)[0])])
    with pytest.raises(UserError, match=r"data\.test\.from_train: 10 .* these are 0") as caught:
        Built(config, tmp_path / "data")
    assert "look at the corpora" in str(caught.value.hint)


def test_a_direction_without_a_test_pair_is_refused(tmp_path: Path) -> None:
    train = [pair_files(tmp_path, "a", numbered(range(1000))),
             pair_files(tmp_path, "b", [("one", "un")])
             | {"source_lang": "en", "target_lang": "fr"}]  # fmt: skip
    train[0] |= {"source_lang": "en", "target_lang": "de"}
    tree = configure(tmp_path, [train[0]]).model_dump()
    tree["data"] |= {"train": train, "target_lang": None}
    tree["tokenizer"] |= {"source_prefix": "<2{target_lang}>"}
    with pytest.raises(UserError, match=r"data\.test\.from_train: no pair .* is en-fr"):
        Built(Config.model_validate(tree), tmp_path / "data")

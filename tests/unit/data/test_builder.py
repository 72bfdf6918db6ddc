"""The builder: duplicates found in parts, and a folder that does not depend on how it is cut."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from mtrain.config import Config
from mtrain.config.corpora import Corpus, PairFiles
from mtrain.config.tokenizer import TokenizerConfig
from mtrain.data import blocks as data_blocks
from mtrain.data import duplicates, vocabulary
from mtrain.data.builder import DataBuilder
from mtrain.data.identity import describe_inputs
from mtrain.data.manifest import data_settings
from mtrain.data.report import describe_manifest
from mtrain.data.store import TokenStore
from mtrain.errors import UserError
from mtrain.text.tokenizer import Tokenizer, train_tokenizer


def corpus(folder: Path, name: str, pairs: list[tuple[str, str]]) -> dict[str, Path]:
    """Write the two files of a corpus."""
    paths = {side: folder / f"{name}.{side}" for side in ("source", "target")}
    for path, lines in zip(paths.values(), zip(*pairs, strict=True), strict=True):
        path.write_text("".join(f"{line}\n" for line in lines))
    return paths


def numbered(numbers: Iterable[int]) -> list[tuple[str, str]]:
    return [(f"this is number {n}", f"das ist Nummer {n}") for n in numbers]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Two training corpora with some of everything that is filtered."""
    first = [*numbered(range(200)), ("same", "same"), ("", "leer"), *numbered(range(50))]
    second = [*numbered(range(150, 260)), ("short", "lang " * 40), ("x", "y\u2028z")]
    return Config.model_validate(
        {
            "run_dir": tmp_path / "run",
            "data": {
                "source_lang": "en",
                "target_lang": "de",
                "train": [corpus(tmp_path, "first", first), corpus(tmp_path, "second", second)],
                "valid": [
                    corpus(tmp_path, "valid", [*numbered(range(100, 120)), ("same", "same")])
                ],
                "test": [corpus(tmp_path, "test", numbered([7, 1000]))],
            },
            "tokenizer": {"vocab_size": 320, "normalization": "nmt_nfkc"},
        }
    )


def build(config: Config, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    return DataBuilder(config, folder).build(describe_inputs(config))[0]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}  # fmt: skip


def test_a_folder_does_not_depend_on_how_the_work_was_cut(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = build(config, tmp_path / "whole")
    monkeypatch.setattr(data_blocks, "BLOCK_PAIRS", 7)
    monkeypatch.setattr("mtrain.text.corpora.LINES_AT_ONCE", 5)
    monkeypatch.setattr(duplicates, "HASHES_AT_ONCE", 11)
    in_pieces = build(config, tmp_path / "pieces")
    assert files(tmp_path / "pieces") == files(tmp_path / "whole")
    assert [in_pieces[key] for key in ("filtered", "tests", "read_pairs", "tokenizers")] == [
        whole[key] for key in ("filtered", "tests", "read_pairs", "tokenizers")
    ]
    assert not list((tmp_path / "whole").glob("scan-*"))


def test_every_pair_read_is_in_the_ledger_of_its_corpus_once(
    config: Config, tmp_path: Path
) -> None:
    manifest = build(config, tmp_path / "data")
    first, second = (ledger["counts"] for ledger in manifest["filtered"])
    assert {reason: count for reason, count in first.items() if count} == {
        "kept": 179,  # of 200 without 20 of valid and one of test
        "identical": 1,  # which also stands in valid: the first fault is told
        "empty": 1,
        "overlap": 21 + 1,  # its copies below among them: number 7
        "duplicate": 49,
    }
    assert {reason: count for reason, count in second.items() if count} == {
        "kept": 60 + 1,
        "duplicate": 50,
        "ratio": 1,
    }
    assert sum(first.values()) + sum(second.values()) == manifest["read_pairs"] == 252 + 112
    assert manifest["splits"]["train"]["pairs"] == first["kept"] + second["kept"]
    assert manifest["train_sources_also_in_valid_or_test"] == 22


def test_the_data_do_not_depend_on_the_model_or_the_training(
    config: Config, tmp_path: Path
) -> None:
    build(config, tmp_path / "one")
    model = config.model.model_copy(update={"max_positions": 250, "d_model": 64})
    training = config.training.model_copy(update={"batch_tokens": 7})
    other = config.model_copy(update={"model": model, "training": training, "seed": 9})
    assert describe_inputs(other) == describe_inputs(config)
    build(other, tmp_path / "other")
    assert files(tmp_path / "other") == files(tmp_path / "one")


def test_the_tokenizer_sees_no_more_than_it_may_and_some_of_every_corpus(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def remember(sentences: Iterable[str], config: TokenizerConfig, path: Path) -> int:
        seen.extend(sentences)
        return train_tokenizer(seen, config, path)

    monkeypatch.setattr(vocabulary, "train_tokenizer", remember)
    sampling = config.tokenizer.model_copy(update={"train_sentences": 200})
    build(config.model_copy(update={"tokenizer": sampling}), tmp_path / "data")
    assert 140 < len(seen) < 260
    numbers = [int(sentence.split()[-1]) for sentence in seen if sentence.startswith("this is")]
    assert min(numbers) < 50
    assert max(numbers) >= 200  # only in the second corpus
    assert not {7, *range(100, 120)} & set(numbers)  # valid and test are not to be learnt from


@pytest.mark.parametrize(("change", "told"), [("grow", "grew"), ("shrink", "shrank")])
def test_a_corpus_that_changes_while_it_is_read_is_refused(
    change: str, told: str, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_meanwhile(sentences: Iterable[str], config: TokenizerConfig, path: Path) -> int:
        for side in ("source", "target"):
            text = tmp_path / f"second.{side}"
            lines = text.read_text().split("\n")[:-1]
            lines = [*lines, "one more"] if change == "grow" else lines[:-1]
            text.write_text("".join(f"{line}\n" for line in lines))
        return train_tokenizer(sentences, config, path)

    monkeypatch.setattr(vocabulary, "train_tokenizer", train_meanwhile)
    with pytest.raises(UserError, match=f"a file {told} while it was read"):
        build(config, tmp_path / "data")


def replaced(config: Config, **data: Any) -> Config:
    tree = config.model_dump()
    return Config.model_validate(tree | {"data": tree["data"] | data})


@pytest.mark.parametrize(
    ("split", "pairs", "error"),
    [
        ("train", [], "data.train: there is not one pair in the corpora"),
        ("train", [("a", "a"), ("", "b")], "data.train: the filters leave not one pair"),
        ("train", [("a b", "c " * 300)], "1 of 1 pairs are longer than data.filters.max_tokens"),
        ("valid", [], "valid: there is not one pair in "),
        ("test", [], "test: there is not one pair in "),
        ("watch", [], "watch: there is not one pair in "),
        ("valid", [("", ""), ("a " * 300, "b")], "data.valid: every pair is empty or over"),
        ("watch", [("", ""), ("a " * 300, "b")], "data.watch: watch: every pair is empty or over"),
    ],
)
def test_data_with_nothing_to_learn_from_or_to_measure_on_are_refused(
    split: str, pairs: list[tuple[str, str]], error: str, config: Config, tmp_path: Path
) -> None:
    paths = {side: tmp_path / f"poor.{side}" for side in ("source", "target")}
    for index, path in enumerate(paths.values()):
        path.write_text("".join(f"{pair[index]}\n" for pair in pairs))
    with pytest.raises(UserError) as caught:
        build(replaced(config, **{split: [paths]}), tmp_path / "data")
    assert error in str(caught.value)


def test_valid_is_kept_as_it_was_given_and_only_the_loss_does_without_the_long(
    config: Config, tmp_path: Path
) -> None:
    pairs = [("a", "b"), ("", ""), ("long " * 300, "lang"), (" x\r", "\ufeffy"), ("a", "b")]
    poor = corpus(tmp_path, "poor", pairs)
    for path in poor.values():
        path.write_bytes(path.read_bytes() + b"\xff\x1c\x00 odd\n")
    manifest = build(replaced(config, valid=[poor]), tmp_path / "data")
    assert manifest["valid_pairs"] == 6
    assert manifest["splits"]["valid"]["pairs"] == 4
    assert manifest["splits"]["valid"]["left_out_of_loss"] == 2
    for side, path in poor.items():
        kept = tmp_path / "data" / "text" / f"valid.{side}"
        assert kept.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("drops", [True, False])
def test_a_watch_set_is_held_out_and_stored_as_valid_is(
    drops: bool, config: Config, tmp_path: Path
) -> None:
    held_out = corpus(tmp_path, "general", [*numbered(range(150, 160)), ("", ""), ("new", "neu")])
    filters = {"drop_overlap": drops}
    plain = build(replaced(config, filters=filters), tmp_path / "plain")
    watch = [held_out | {"name": "general"}]
    manifest = build(replaced(config, filters=filters, watch=watch), tmp_path / "data")
    rows = manifest["splits"]["train"]["pairs"], plain["splits"]["train"]["pairs"]
    # both corpora hold each of the ten pairs: of two copies one is a duplicate
    assert rows[0] == rows[1] - (10 if drops else 0)
    assert manifest["kept_pairs_also_in_valid_or_test"] == (
        plain["kept_pairs_also_in_valid_or_test"] + (0 if drops else 2 * 10)
    )
    report = describe_manifest(manifest)
    assert "watch    12 pairs in general, 1 of them left out of the dev loss\n" in report
    assert "1 empty on a side in general, for example" in report

    as_valid = build(replaced(config, filters=filters, valid=watch), tmp_path / "as-valid")
    if not drops:  # the tokenizer is the same then
        general, valid = manifest["splits"]["watch-general"], as_valid["splits"]["valid"]
        assert general == valid
        stores = tmp_path / "data" / "watch-general", tmp_path / "as-valid" / "valid"
        assert files(stores[0]) == files(stores[1])
    kept = tmp_path / "data" / "text" / "general.target"
    assert kept.read_bytes() == held_out["target"].read_bytes()


def test_a_line_end_inside_a_record_does_not_shift_the_lines_of_valid(
    config: Config, tmp_path: Path
) -> None:
    records = [{"en": "two\nlines", "de": "zwei\n\nZeilen"}, {"en": "a", "de": "b"}]
    table = tmp_path / "valid.jsonl"
    table.write_text("\n".join(map(json.dumps, records)))
    build(replaced(config, valid=[{"path": table}]), tmp_path / "data")
    text = tmp_path / "data" / "text"
    assert (text / "valid.source").read_text() == "two lines\na\n"
    assert (text / "valid.target").read_text() == "zwei  Zeilen\nb\n"


def test_a_null_in_valid_is_what_an_empty_line_of_a_text_file_is(
    config: Config, tmp_path: Path
) -> None:
    records = [{"en": "a", "de": "b"}, {"en": None, "de": "leer"}, {"en": "c", "de": "c"}]
    table = tmp_path / "valid.jsonl"
    table.write_text("\n".join(map(json.dumps, records)))
    lines = corpus(tmp_path, "same", [("a", "b"), ("", "leer"), ("c", "c")])
    found = []
    for name, valid in (("table", {"path": table}), ("lines", lines)):
        manifest = build(replaced(config, valid=[valid]), tmp_path / name)
        [entry] = manifest["held_out"]["valid"]
        assert (entry["seen"], entry["same_text"], entry["counts"]["empty"]) == (3, 1, 1)
        assert manifest["splits"]["valid"]["left_out_of_loss"] == 1
        found.append(files(tmp_path / name))
    assert found[0] == found[1]


def test_most_of_a_held_out_set_has_to_be_utf_8(config: Config, tmp_path: Path) -> None:
    poor = corpus(tmp_path, "poor", numbered(range(10)))
    for num_bad in (5, 6):
        lines = [b"gr\xfcn" if row < num_bad else b"gut" for row in range(10)]
        poor["target"].write_bytes(b"\n".join(lines) + b"\n")
        poor_config = replaced(config, test=[poor | {"name": "poor"}])
        if num_bad == 5:
            manifest = build(poor_config, tmp_path / "half")
            assert "5 not UTF-8 in poor, for example" in describe_manifest(manifest)
        else:
            with pytest.raises(UserError, match="poor: 6 of 10 pairs are not UTF-8") as caught:
                build(poor_config, tmp_path / "most")
            assert "iconv" in caught.value.hint


def source_of(corpus: Corpus) -> Path:
    assert isinstance(corpus, PairFiles)
    return corpus.source


def align(config: Config, lines: dict[int, str]) -> Config:
    """Give the first corpus an alignments file in which only the pairs named have links."""
    first, second = config.data.train
    source = source_of(first)
    path = source.with_name("first.align")
    count = len(source.read_bytes().splitlines())
    path.write_text("".join(f"{lines.get(number, '')}\n" for number in range(count)))
    return replaced(config, train=[first.model_dump() | {"alignments": path}, second.model_dump()])


def open_train(folder: Path, manifest: dict[str, Any]) -> TokenStore:
    about = manifest["splits"]["train"]
    return TokenStore(folder / "train", about["columns"], about["vocab_size"], about["fingerprint"])


def test_links_follow_their_pairs_past_the_filters_and_into_pieces(
    config: Config, tmp_path: Path
) -> None:
    lost = source_of(config.data.train[0])
    lost.write_text(lost.read_text().replace("this is number 3\n", "this\u200bis number 3\n"))
    linked = align(
        config,
        {
            2: "2-2 0-0",
            3: "0-0 1-1",  # has a word more in its pieces than between its blanks
            7: "0-0",  # stands in test
            150: "2-2 1-1 2-2",  # stands in the second corpus, too, which has no links
            200: "0-0",  # identical
            204: "2-0",  # a duplicate of number 2
        },
    )
    manifest = build(linked, tmp_path / "data")
    store = open_train(tmp_path / "data", manifest)
    tokenizer = Tokenizer(tmp_path / "data" / "tokenizer" / "shared.model")
    assert store.links is not None
    found = {}
    for row in range(len(store)):
        if links := store.links.of_pair(row):
            source, target = (tokenizer.pieces(side.row(row))
                              for side in (store.source, store.target))  # fmt: skip
            text = tokenizer.decode([store.source.row(row)])[0]
            found[text] = {(source[s], target[t]) for s, t in links}
    assert found.keys() == {"this is number 2", "this is number 150"}
    assert ("\u2581this", "\u2581das") in found["this is number 2"]
    assert not any("2" in source for source, _ in found["this is number 2"])
    assert manifest["splits"]["train"]["links"] == {
        "count": sum(len(store.links.of_pair(row)) for row in range(len(store))),
        "pairs": 2,
        "lost": 1,
    }
    assert "2 pairs; 1 pairs lost theirs" in describe_manifest(manifest)


def test_links_change_nothing_else(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = build(config, tmp_path / "plain")
    linked = align(config, {2: "0-0", 12: "1-1"})
    manifest = build(linked, tmp_path / "linked")
    with_links = files(tmp_path / "linked")
    assert with_links.pop("train/links.tokens")
    assert with_links.pop("train/links.offsets")
    assert with_links == files(tmp_path / "plain")
    assert "links" not in plain["splits"]["train"] | plain["splits"]["valid"]
    assert "links" not in manifest["splits"]["valid"]
    assert "links " not in describe_manifest(plain)
    fingerprints = [told["splits"]["train"].pop("fingerprint") for told in (plain, manifest)]
    assert fingerprints[0] != fingerprints[1]
    monkeypatch.setattr(data_blocks, "BLOCK_PAIRS", 7)
    build(linked, tmp_path / "pieces")
    assert files(tmp_path / "pieces") == files(tmp_path / "linked")


def test_settings_are_what_differs_from_the_defaults(config: Config) -> None:
    """So that a key added later, at its default, leaves prepared folders readable."""
    data = data_settings(config)["data"]
    for corpora in (data["train"], data["valid"], data["test"]):
        assert all(corpus.keys() <= {"source", "target", "name"} for corpus in corpora)
    hub = data_settings(replaced(config, test=[{"hub": "a/b"}]))["data"]["test"]
    assert hub == [{"hub": "a/b"}]
    linked = data_settings(align(config, {}))["data"]["train"]
    assert linked[0]["alignments"].endswith("first.align")
    assert linked[1] == data["train"][1]

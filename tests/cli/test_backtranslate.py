"""`mtrain backtranslate`: text in one language becomes a corpus, whatever interrupts it."""

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mtrain.data.folders import DataFolder
from mtrain.inference.journalled import BLOCK_LINES
from tests.cli.warm import WarmCommandLine
from tests.conftest import TINY_CONFIG, every_line, succeed, write_task

# the run beside it translates digits to words: here words are the source
REVERSED = (
    TINY_CONFIG.replace("run_dir: run\n", "run_dir: new\n")
    .replace("source_lang: digits", "source_lang: words")
    .replace("target_lang: words", "target_lang: digits")
    .replace("source: train.digits, target: train.words",
             "name: pairs, source: train.words, target: train.digits")
    .replace("source: valid.digits, target: valid.words",
             "source: valid.words, target: valid.digits")
    .replace("source: test.digits, target: test.words", "source: test.words, target: test.digits")
)  # fmt: skip
TEXT = "{text: mono.digits, lang: digits}"
CONFIG = REVERSED.replace("train.digits}]", f"train.digits}}, {TEXT}]")
OUTPUT = Path("new/data-translations/mono.words")


@pytest.fixture
def beside(trained_copy: Path, server: None) -> Iterator[WarmCommandLine]:
    """The command line beside a trained run and a configuration with monolingual text."""
    write_task(trained_copy, {"mono": 300}, seed=7)
    lines = (trained_copy / "mono.digits").read_text()
    (trained_copy / "mono.digits").write_text(f"{lines}\n{lines.splitlines()[0]}\n")
    (trained_copy / "new.yaml").write_text(CONFIG)
    with closing(WarmCommandLine(trained_copy)) as warm:
        yield warm


def test_text_becomes_a_tagged_corpus(beside: WarmCommandLine) -> None:
    early = beside("prepare", "new.yaml")
    assert early.code == 2
    assert "mono.digits: there is no translation into words yet" in early.err
    assert "run first: mtrain backtranslate RUN CONFIG.yaml" in early.err
    assert not (beside.folder / "new").exists()
    done = succeed(beside, "backtranslate", "run", "new.yaml")
    assert "next: mtrain prepare" in done.out
    assert "302 lines: 301 ordinary, 1 empty" in done.err
    assert (beside.folder / OUTPUT).read_text() == succeed(
        beside, "translate", "run", "mono.digits").out  # fmt: skip
    told = succeed(beside, "prepare", "new.yaml").out
    assert "corpus   mono: " in told
    assert "1 dropped: empty" in told
    assert " dropped: duplicate" in told
    data = DataFolder(beside.folder / "new" / "data")
    store, tokenizers, sizes = data.store("train"), data.tokenizers(), data.corpus_sizes()
    firsts = [tokenizers.source.pieces(store.source.row(row)[:1])[0] for row in range(len(store))]
    assert "<bt>" not in firsts[: sizes[0]]
    assert firsts[sizes[0] :] == ["<bt>"] * sizes[1]
    assert sizes[1] > 150
    succeed(beside, "train", "new.yaml", "--set", "training.max_updates=2")
    assert "<bt>" not in succeed(beside, "translate", "new", "test.words").out
    again = beside("backtranslate", "run", "new.yaml")
    assert f"{OUTPUT}: translated before, nothing to do" in again.err
    assert "nothing changed" in succeed(beside, "prepare", "new.yaml").err


def test_text_in_the_source_language_is_translated_forward(beside: WarmCommandLine) -> None:
    forward = TINY_CONFIG.replace("run_dir: run", "run_dir: new").replace(
        "train.words}]",
        "train.words}, {text: mono.digits, lang: digits, tag: null, name: self, weight: 1}]",
    ).replace("{source: train.digits", "{weight: 3, source: train.digits")  # fmt: skip
    (beside.folder / "new.yaml").write_text(forward)
    succeed(beside, "backtranslate", "run", "new.yaml", "--set", "decoding.beam_size=1")
    assert "corpus   self: " in succeed(beside, "prepare", "new.yaml").out
    data = DataFolder(beside.folder / "new" / "data")
    tokenizers, rows = data.tokenizers(), data.store("train")
    (source,) = tokenizers.source.decode([rows.source.row(len(rows) - 1)])
    assert source in every_line((beside.folder / "mono.digits").read_text())
    assert "mix: data.train.0 75.0%, self 25.0%" in succeed(
        beside, "train", "new.yaml", "--set", "training.max_updates=1").err  # fmt: skip


def test_a_translation_belongs_to_its_text(beside: WarmCommandLine) -> None:
    succeed(beside, "backtranslate", "run", "new.yaml", "--set", "decoding.beam_size=1")
    text = beside.folder / "mono.digits"
    text.write_text("\n".join(reversed(text.read_text().splitlines())) + "\n")
    refused = beside("prepare", "new.yaml")
    assert refused.code == 2
    assert f"{OUTPUT} is the translation of another text" in refused.err
    succeed(beside, "backtranslate", "run", "new.yaml", "--set", "decoding.beam_size=1")
    succeed(beside, "prepare", "new.yaml")


def test_text_that_holds_references_gives_them_up(beside: WarmCommandLine) -> None:
    held_out = every_line((beside.folder / "test.digits").read_text())
    with (beside.folder / "mono.digits").open("a") as file:
        file.write("\n".join(held_out) + "\n")
    succeed(beside, "backtranslate", "run", "new.yaml", "--set", "decoding.beam_size=1")
    told = succeed(beside, "prepare", "new.yaml").out
    assert " dropped: overlap" in told
    data = DataFolder(beside.folder / "new" / "data")
    store, target = data.store("train"), data.tokenizers().target
    learnt = set(target.decode([store.target.row(row) for row in range(len(store))]))
    assert not learnt & set(held_out)


def test_what_another_run_has_to_translate_is_left(beside: WarmCommandLine) -> None:
    both = CONFIG.replace(TEXT, f"{TEXT}, {{text: train.words, lang: words, name: forward}}")
    (beside.folder / "new.yaml").write_text(both)
    done = succeed(beside, "backtranslate", "run", "new.yaml", "--set", "decoding.beam_size=1")
    assert "train.words: left for a run that translates it words to digits" in done.err
    assert (beside.folder / OUTPUT).is_file()


def test_a_killed_translation_goes_on_and_ends_alike(
    beside: WarmCommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = (beside.folder / "mono.digits").read_text()
    (beside.folder / "mono.digits").write_text(lines * 14)  # some blocks
    settings = ("--set", "decoding.method=sample")
    succeed(beside, "backtranslate", "run", "new.yaml", *settings)
    output, about = beside.folder / OUTPUT, beside.folder / f"{OUTPUT}.json"
    wanted, identity = output.read_bytes(), json.loads(about.read_bytes())
    assert len(every_line(wanted.decode())) == 14 * 302 > 2 * BLOCK_LINES
    assert identity["decoding"]["method"] == "sample"
    shutil.rmtree(output.parent)
    record = output.with_name(f".{output.name}.journal")
    running = beside.start("backtranslate", "run", "new.yaml", *settings)
    running.wait_until(record.is_file)
    running.send(signal.SIGKILL)
    assert running.finish().code == -signal.SIGKILL
    assert not output.exists()
    with output.with_name(f".{output.name}.part").open("ab") as part:
        part.write(b"half a li")  # what had not been flushed
    resumed = succeed(beside, "backtranslate", "run", "new.yaml", *settings)
    assert f"{OUTPUT}: resuming after " in resumed.err
    assert output.read_bytes() == wanted
    assert sorted(path.name for path in output.parent.iterdir()) == [
        output.name, f"{output.name}.json"]  # fmt: skip
    other = succeed(beside, "backtranslate", "run", "new.yaml", "--set", "decoding.beam_size=1")
    assert "resuming" not in other.err
    assert output.read_bytes() != wanted


@pytest.mark.parametrize(
    ("old", "new", "options", "error"),
    [
        (TEXT, "{text: gone.digits, lang: digits}", (), "gone.digits: there is no such file"),
        (TEXT, "{text: mono.digits, lang: words}", (),
         "mono.digits: needs a run that translates words to digits; this one translates digits to"),
        (TEXT, "{text: mono.digits, lang: en}", (),
         "train.1.lang: en is neither its source_lang words nor its target_lang digits"),
        (f", {TEXT}", "", (), "data.train has no monolingual corpus"),
        (TEXT, TEXT, ("--corpus", "news"), "has no monolingual corpus news\nthere are: mono"),
        (TEXT, f"{TEXT}, {TEXT}", (), "two monolingual corpora are called mono"),
        (TEXT, TEXT, ("--checkpoint", "none"), "there is no checkpoint none"),
        (TEXT, "{text: mono.digits}", (), "data.train.1.lang is missing"),
    ],
)  # fmt: skip
def test_what_cannot_be_translated_is_named(
    old: str, new: str, options: tuple[str, ...], error: str, beside: WarmCommandLine
) -> None:
    (beside.folder / "new.yaml").write_text(CONFIG.replace(old, new))
    refused = beside("backtranslate", "run", "new.yaml", *options)
    assert refused.code == 2
    assert error in refused.err
    assert not (beside.folder / "new").exists()

"""A BERT on the command line: from text to filled masks, scores and heads, and what is refused.

The text repeats one word a line, in two languages: a masked word is the one beside it.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import sentencepiece
import yaml
from pyarrow import parquet

import mtrain
from mtrain.errors import UserError
from tests.cli.conftest import contents
from tests.cli.warm import WarmCommandLine
from tests.conftest import TINY_CONFIG, every_line, succeed

WORDS = {
    "en": ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"],
    "de": ["null", "eins", "zwei", "drei", "vier", "fuenf", "sechs", "sieben", "acht", "neun"],
}
CONFIG: dict[str, Any] = {
    "run_dir": "run",
    "data": {
        "train": [{"text": f"train.{lang}", "lang": lang, "name": lang} for lang in WORDS],
        "valid": [{"text": f"valid.{lang}", "lang": lang} for lang in WORDS],
        "watch": [{"name": "old", "text": "valid.de", "lang": "de"}],
        "test": [{"name": "same", "source": "valid.en", "target": "valid.en",
                  "source_lang": "en", "target_lang": "en"},
                 {"name": "test-de", "text": "test.de", "lang": "de"}],
        "filters": {"max_tokens": 64},
    },
    "tokenizer": {"vocab_size": 380},
    "model": {"type": "bert", "encoder_layers": 1, "d_model": 32, "num_heads": 2, "ffn_dim": 64,
              "max_positions": 128, "dropout": 0.0},
    "training": {"objective": "masked_lm", "batch_tokens": 512, "max_updates": 60,
                 "learning_rate": 1.0e-2, "warmup_updates": 10, "valid_every": 20,
                 "precision": "fp32", "patience": 9, "average_checkpoints": 2, "ema_decay": 0.5},
}  # fmt: skip
TINY = {"max_updates": 2, "valid_every": 2, "average_checkpoints": 0}


def write_text(folder: Path) -> None:
    """Write train, valid and test in both languages; no line is in two of them."""
    for lang, words in WORDS.items():
        lines = [" ".join([word] * number) for number in range(3, 12) for word in words]
        parts = {"train": lines[::3] + lines[1::3], "valid": lines[2::6], "test": lines[5::6]}
        for split, part in parts.items():
            (folder / f"{split}.{lang}").write_text("\n".join(part) + "\n")


def write_config(folder: Path, name: str = "bert.yaml", **sections: Any) -> str:
    """Write the configuration with some keys of sections changed; return its name."""
    tree = {**CONFIG}
    for section, keys in sections.items():
        tree[section] = {**CONFIG[section], **keys} if isinstance(keys, dict) else keys
    (folder / name).write_text(yaml.safe_dump(tree))
    return name


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory, server: None) -> Path:
    """A BERT that has learnt the text, in `run`; and what `prepare` and `train` said."""
    folder = tmp_path_factory.mktemp("bert")
    write_text(folder)
    write_config(folder)
    with closing(WarmCommandLine(folder)) as command:
        for verb in ("prepare", "train"):
            finished = succeed(command, verb, "bert.yaml")
            (folder / f"{verb}.said").write_text(finished.out + finished.err)
    return folder


@pytest.fixture
def bert(bert_folder: Path) -> Iterator[WarmCommandLine]:
    """The command line beside the trained BERT, for what leaves it as it is."""
    with closing(WarmCommandLine(bert_folder)) as command:
        yield command


def filled(said: str) -> list[tuple[int, int, str, float]]:
    rows = [line.split(" ||| ") for line in every_line(said)]
    return [(int(line), int(mask), word, float(share)) for line, mask, word, share in rows]


def test_prepare_and_train_speak_of_texts_and_masked_tokens(bert_folder: Path) -> None:
    prepared = (bert_folder / "prepare.said").read_text()
    trained = (bert_folder / "train.said").read_text()
    assert "120 texts kept of 120 read" in prepared
    assert "15 texts in old" in prepared
    assert "pairs" not in prepared + trained
    assert re.search("dev loss .*perplexity .*masked accuracy .*; watch old: loss", trained)
    assert "masked tokens" in trained
    assert "target tokens" not in trained
    assert re.search(r"^ +update +minutes +dev loss +accuracy +old loss +accuracy\n", trained)
    assert "average of checkpoints" in trained
    assert "best by dev loss: run/checkpoints/update-" in trained
    assert "dev loss fell by" in trained


def test_a_dry_run_forecasts_masked_tokens(bert: WarmCommandLine) -> None:
    said = succeed(bert, "train", "bert.yaml", "--check").out
    assert re.search(r"largest batch +4 rows, 128 tokens wide", said)
    assert re.search(r"[\d,]+ masked tokens/s", said)


def test_a_dry_run_takes_no_text_that_is_left_out(warm: WarmCommandLine) -> None:
    write_text(warm.folder)
    (warm.folder / "long.en").write_text("one " * 200 + "\n")
    valid = [{"text": "long.en", "lang": "en"}, {"text": "valid.de", "lang": "de"}]
    config = write_config(warm.folder, data={"valid": valid})
    succeed(warm, "prepare", config)
    succeed(warm, "train", config, "--check")


def test_fill_writes_the_likeliest_words_of_each_mask_in_order(bert: WarmCommandLine) -> None:
    lines = "four four [MASK] four\n\nnull [MASK] null [MASK] null\nno mask here\n[MASK] six six\n"
    (bert.folder / "in").write_text(lines)
    done = succeed(bert, "fill", "run", "in", "--top", 3)
    rows = filled(done.out)
    places = [(line, mask) for line, mask, _, _ in rows]
    assert places == [place for place in [(1, 1), (3, 1), (3, 2), (5, 1)] for _ in range(3)]
    assert [word for _, _, word, _ in rows[::3]] == ["four", "null", "null", "six"]
    for first in range(0, len(rows), 3):
        shares = [share for _, _, _, share in rows[first : first + 3]]
        assert shares == sorted(shares, reverse=True)
        assert 0 < sum(shares) <= 1
    assert "warning: in: 2 lines have no [MASK]: nothing is written for them" in done.err
    assert "in: 5 lines: 3 with 4 masks, 2 without, 0 longer" in done.err
    through = succeed(bert, "fill", "run", "--top", 3, stdin=lines.encode()).out
    assert through == done.out
    assert succeed(bert, "fill", "run", "-", "--top", 3, "--output", "out", stdin=lines.encode())
    assert (bert.folder / "out").read_text() == done.out
    assert len(filled(succeed(bert, "fill", "run", "in").out)) == 4 * 5


def test_fill_accounts_for_every_line_of_any_bytes(bert: WarmCommandLine) -> None:
    traps = [b"\xff [MASK] \xfe", b"one\x00[MASK]", "\u2028[MASK]\x85\r".encode(),
             b"[MASK" + b"]" * 9, b"one " * 300 + b"[MASK]", b"", b"\xf0\x9f[MASK]",
             b"|||"]  # fmt: skip
    done = succeed(bert, "fill", "run", "--top", 1, stdin=b"\n".join(traps))
    assert [line for line, _, _, _ in filled(done.out)] == [1, 2, 3, 4, 5, 7]
    assert "8 lines: 6 with 6 masks, 2 without, 1 longer than the model reads at once" in done.err
    assert "1 lines are longer than the 127 tokens" in done.err
    assert "2 lines are not valid UTF-8" in done.err


def test_fill_answers_each_line_as_it_arrives(bert: WarmCommandLine, tmp_path: Path) -> None:
    for name in ("in", "out"):
        os.mkfifo(tmp_path / name)
    answers, answered = os.open(tmp_path / "out", os.O_RDONLY | os.O_NONBLOCK), bytearray()
    process = bert.start("fill", "run", tmp_path / "in", "--top", 1, "--output", tmp_path / "out")

    def num_answers() -> int:
        with contextlib.suppress(BlockingIOError):
            answered.extend(os.read(answers, 1000))
        return answered.count(b"\n")

    with (tmp_path / "in").open("wb", buffering=0) as writer:
        writer.write(b"two [MASK] two\n")
        process.wait_until(lambda: num_answers() == 1)
        writer.write(b"two [MASK] [MASK]\n")
        process.wait_until(lambda: num_answers() == 3)
    assert process.finish().code == 0
    os.close(answers)


def test_the_python_interface_fills_as_the_command_does(bert_folder: Path) -> None:
    run = mtrain.load(bert_folder / "run")
    one, none = run.fill(["four four [MASK] four", "four"], top=2)
    best, second = one.masks[0]
    assert best.word == "four"
    assert best.probability > second.probability
    assert none.masks == []
    with pytest.raises(UserError, match="fills masked tokens and does not translate"):
        run.translate(["four"])


def test_scores_are_those_of_a_validation_also_of_a_run_alone(
    bert: WarmCommandLine, tmp_path: Path
) -> None:
    scored = json.loads(succeed(bert, "score", "run", "--json").out)
    by_name = {entry["name"]: {figure["name"]: figure["value"] for figure in entry["scores"]}
               for entry in scored["sets"]}  # fmt: skip
    events = [
        json.loads(line) for line in every_line((bert.folder / "run/metrics.jsonl").read_text())
    ]
    best = min((event for event in events if event["kind"] == "valid"),
               key=lambda event: event["loss"])  # fmt: skip
    assert by_name["same"]["loss"] == pytest.approx(best["losses"]["valid.en"], rel=1e-5)
    assert by_name["test-de"]["accuracy"] > 80
    assert by_name["same"]["perplexity"] == pytest.approx(np.exp(by_name["same"]["loss"]))
    assert {entry["direction"] for entry in scored["sets"]} == {"en", "de"}
    for path, content in contents(bert.folder / "run").items():
        if not path.startswith("data/"):
            (tmp_path / "moved" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "moved" / path).write_bytes(content)
    with closing(WarmCommandLine(tmp_path)) as command:
        assert json.loads(succeed(command, "score", "moved", "--json").out) == scored
        table = succeed(command, "score", "moved").out
        assert re.search(r"same, en, 15 sentences\n  accuracy +[\d.]+   masked:0.15\|", table)
        accuracy = by_name["same"]["accuracy"]
        failed = command("score", "moved", "--fail-under", 101, "--markdown", "comment.md")
        assert failed.code == 1
        assert f"| accuracy | {accuracy:.2f} |" in (tmp_path / "comment.md").read_text()
        refused = command("score", "moved", "--save-baseline", "base.json")
        assert refused.code == 2
        assert "moved: this run fills masked tokens; a baseline holds translations" in refused.err
        assert f"same: accuracy {accuracy:.2f} is under 101" in failed.err
        for option in (("--fail-on", "empty=0"), ("--test-set", "wmt14:en-de")):
            refused = command("score", "moved", *option)
            assert refused.code == 2
            assert "this run fills masked tokens; --fail-on, --suite, --metrics" in refused.err


def test_the_report_tells_masked_accuracy_and_has_no_translations(bert_folder: Path) -> None:
    page = (bert_folder / "run" / "report.html").read_text("utf-8")
    events = [
        json.loads(line) for line in every_line((bert_folder / "run/metrics.jsonl").read_text())
    ]
    best = min((event for event in events if event["kind"] == "valid"),
               key=lambda event: event["loss"])  # fmt: skip
    assert f"<td>accuracy in percent</td><td>{best['accuracy']:.2f}</td>" in page
    assert "Dev masked accuracy" in page
    assert "texts read" in page
    assert "BLEU" not in page.partition("<body>")[2].partition("Configuration")[0]
    assert "Samples" not in page
    assert not (bert_folder / "run" / "valid.json").exists()


def test_attention_shows_the_heads_of_the_encoder(bert: WarmCommandLine, tmp_path: Path) -> None:
    out = tmp_path / "shown"
    succeed(bert, "attention", "run", "-", "--output", out, stdin=b"four [MASK] four\n\nsix\n")
    arrays = np.load(out / "attention.npz")
    tokens = arrays["0/source"].tolist()
    assert [token for token in tokens if "[MASK]" in token] == ["▁[MASK]"]
    weights = arrays["0/encoder"]
    assert weights.shape == (1, 2, len(tokens), len(tokens))
    assert np.allclose(weights.sum(axis=-1), 1, atol=1e-5)
    names = sorted(path.name for path in out.iterdir())
    assert names == ["0001-encoder.png", "0001-head.png", "0002-encoder.png", "0002-head.png",
                     "attention.html", "attention.npz"]  # fmt: skip
    succeed(bert, "attention", "run", "-", "--output", out, "--merge-subwords", "--no-pictures",
            "--layer", 1, "--head", 2, stdin=b"four [MASK] four\n")  # fmt: skip
    assert np.load(out / "attention.npz")["0/source"].tolist()[:2] == ["four", "[MASK]"]
    for options, error in (
        (("--references", "valid.en"), "--references: run is a bert model, which reads text"),
        (("--layer", 2), "there is no layer 2: this model's are 1 to 1"),
        (("--head", 3), "there is no head 3: this model's are 1 to 2"),
    ):
        refused = bert("attention", "run", "valid.en", "--output", out, *options)
        assert refused.code == 2
        assert error in refused.err
        assert "using" not in refused.err


def test_verbs_of_translation_say_what_it_is_before_they_load_it(
    bert: WarmCommandLine, tmp_path: Path
) -> None:
    for command in (
        ("translate", "run", "valid.en"),
        ("translate", "run", "--target-lang", "fr", "--engine", "ctranslate2"),
        ("align", "run", "valid.en", "valid.de"),
        ("backtranslate", "run", "bert.yaml"),
        ("export", "run", tmp_path / "new", "--to", "ctranslate2"),
    ):
        refused = bert(*command)
        assert refused.code == 2, command
        assert "run: this is a bert model, which fills masked tokens and does not translate" in (
            refused.err
        )
        assert "mtrain fill run; to translate, train a model that starts from it" in refused.err
        assert "using" not in refused.err
    assert not (tmp_path / "new").exists()


def test_a_run_that_translates_does_not_fill(warm: WarmCommandLine, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text(TINY_CONFIG)
    refused = warm("fill", "run", "valid.digits")
    assert refused.code == 2
    assert "run: this is a transformer model, which translates and does not fill" in refused.err
    assert "mtrain translate run; to fill, train a model with" in refused.err
    assert "using" not in refused.err


def test_corpora_of_every_kind_and_held_out_text_from_train(
    warm: WarmCommandLine, tmp_path: Path
) -> None:
    write_text(tmp_path)
    sides = [every_line((tmp_path / f"train.{lang}").read_text()) for lang in WORDS]
    pairs = list(zip(*sides, strict=True))
    (tmp_path / "a.tsv").write_text("".join(f"x\t{en} table\n" for en, _ in pairs))
    records = [{"text": {"de": f"{de} tafel"}, "n": 1} for _, de in pairs]
    (tmp_path / "b.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    hub = tmp_path / "hub"
    hub.mkdir()
    rows = [{"text": f"{en} hub"} for en, _ in pairs]
    parquet.write_table(
        pyarrow.Table.from_pylist(rows), hub / "train-00000-of-00001.parquet"
    )  # fmt: skip
    data = {
        "train": [
            {"text": "train.en", "lang": "en", "name": "plain"},
            {"text": "a.tsv", "lang": "en", "field": 1},
            {"text": "b.jsonl", "lang": "de", "field": "text.de"},
            {"hub": "hub", "lang": "fr", "field": "text", "name": "hub"},
            {"source": "train.en", "target": "train.de", "source_lang": "en", "target_lang": "de",
             "name": "pairs"},
        ],
        "valid": {"from_train": 20}, "test": {"from_train": 20}, "watch": [],
    }  # fmt: skip
    config = write_config(tmp_path, data=data, training=TINY)
    said = succeed(warm, "prepare", config).out
    kept = dict(re.findall(r"corpus   (\S+): (\d+) kept", said))
    assert kept.keys() == {"plain", "a.tsv", "b.jsonl", "hub", "pairs"}
    assert all(int(count) > 10 for count in kept.values())
    succeed(warm, "train", config)
    scored = json.loads(succeed(warm, "score", "run", "--json").out)["sets"]
    assert sum(entry["sentences"] for entry in scored) >= 20
    assert all(entry["scores"][0]["name"] == "accuracy" for entry in scored)
    assert len(filled(succeed(warm, "fill", "run", stdin=b"one [MASK]\n").out)) == 5


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a transformer": (
        {"model": {"type": "transformer"}},
        "does not fit model.type: transformer; a bert learns by masked_lm",
    ),
    "translation": (
        {"training": {"objective": "translation"}},
        "objective: translation does not fit model.type: bert",
    ),
    "BLEU": ({"training": {"valid_metric": "bleu"}}, "valid_metric: bleu is not measured"),
    "two vocabularies": ({"tokenizer": {"shared": False}}, "tokenizer.shared: false"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_configuration_that_cannot_be_is_refused(
    name: str, warm: WarmCommandLine, tmp_path: Path
) -> None:
    sections, error = BAD[name]
    write_text(tmp_path)
    refused = warm("prepare", write_config(tmp_path, **sections))
    assert refused.code == 2
    assert error in refused.err


def test_text_in_a_translation_configuration_is_refused_with_what_to_do(
    warm: WarmCommandLine, tmp_path: Path
) -> None:
    write_text(tmp_path)
    pair = {"source": "train.en", "target": "train.de"}
    sides = {"source_lang": "en", "target_lang": "de"}
    for data, error in (
        ({}, "training.objective: masked_lm learns from it; to back-translate"),
        ({"train": [pair], **sides}, "held-out text needs both sides"),
    ):
        config = write_config(tmp_path, data=data, model={"type": "transformer"}, training={})
        tree = yaml.safe_load((tmp_path / config).read_text())
        tree |= {"model": {"d_model": 32}, "training": {"max_updates": 2}}
        (tmp_path / config).write_text(yaml.safe_dump(tree))
        refused = warm("prepare", config)
        assert refused.code == 2
        assert error in refused.err


def test_a_given_vocabulary_without_a_mask_piece_is_refused_and_symbols_add_one(
    warm: WarmCommandLine, tmp_path: Path
) -> None:
    write_text(tmp_path)
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "train.en"), model_prefix=str(tmp_path / "given"), vocab_size=320,
        model_type="bpe", byte_fallback=True, minloglevel=2,
    )  # fmt: skip
    given = "given.model"
    refused = warm("prepare", write_config(tmp_path, tokenizer={"path": given}))
    assert refused.code == 2
    assert "this vocabulary has no mask piece ([MASK] or <mask>)" in refused.err
    assert 'tokenizer.symbols: ["[MASK]"]' in refused.err
    assert not (tmp_path / "run/data").exists()
    mended = write_config(tmp_path, tokenizer={"path": given, "symbols": ["[MASK]"]})
    succeed(warm, "prepare", mended)


def test_text_of_no_words_is_named(warm: WarmCommandLine, tmp_path: Path) -> None:
    write_text(tmp_path)
    (tmp_path / "empty").write_text("\n \n\u2028\n")
    empty = write_config(tmp_path, data={"train": [{"text": "empty", "lang": "en"}]})
    refused = warm("prepare", empty)
    assert refused.code == 2
    assert "empty" in refused.err
    (tmp_path / "symbols").write_text("".join(f"... {'!' * n} ---\n" for n in range(40)))
    symbols = write_config(tmp_path, data={"train": [{"text": "symbols", "lang": "en"}]})
    refused = warm("prepare", symbols)
    assert refused.code == 2
    assert "data.train: no text has a letter in it" in refused.err
    assert not (tmp_path / "run/data").exists()

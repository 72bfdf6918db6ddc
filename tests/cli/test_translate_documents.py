"""Documents on the command line: chunks to learn from, and lines translated with their context."""

import gzip
import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mtrain.config.tokenizer import TokenizerConfig
from mtrain.text.tokenizer import train_tokenizer
from tests.cli.conftest import contents, trained_in
from tests.cli.warm import WarmCommandLine
from tests.conftest import every_line, succeed

# copies digits, which takes few updates to learn, separators included
CONFIG = """\
run_dir: run
data:
  source_lang: qaa
  target_lang: qaa
  train:
    - {source: train.txt, target: train.txt, documents: empty_lines}
    - {source: more.txt, target: more.txt, documents: more.ids.gz}
  valid: [{source: valid.txt, target: valid.txt, documents: empty_lines}]
  test: [{source: test.txt, target: test.txt, documents: empty_lines}]
  filters: {max_tokens: 6, drop_identical: false, drop_duplicates: false, drop_overlap: false}
  context: {tokens: 16}
tokenizer: {vocab_size: 320}
model:
  encoder_layers: 1
  decoder_layers: 1
  d_model: 64
  num_heads: 4
  ffn_dim: 128
  max_positions: 64
  dropout: 0.0
training:
  optimizer: muon
  batch_tokens: 256
  max_updates: 180
  learning_rate: 1.0e-2
  warmup_updates: 20
  valid_every: 180
  label_smoothing: 0.0
  precision: fp32
decoding: {beam_size: 2}
"""


def write_documents(folder: Path) -> None:
    """Write documents of 2 to 5 lines of digits, with and without empty lines between them."""
    generator = random.Random(1)
    for name, size in (("train", 300), ("more", 100), ("valid", 4), ("test", 12)):
        documents = [
            [" ".join(map(str, generator.sample(range(10), generator.randint(1, 2))))
             for _ in range(generator.randint(2, 5))]
            for _ in range(size)
        ]  # fmt: skip
        between = "\n" if name == "more" else "\n\n"
        text = between.join(map("\n".join, documents)) + "\n"
        (folder / f"{name}.txt").write_text(text)
        ids = "".join(f"{number}\n" * len(lines) for number, lines in enumerate(documents))
        (folder / f"{name}.ids.gz").write_bytes(gzip.compress(ids.encode(), mtime=0))
    (folder / "config.yaml").write_text(CONFIG)


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory, server: None) -> Iterator[WarmCommandLine]:
    """The command line beside a run that has learnt documents. Only to be read."""
    folder = tmp_path_factory.mktemp("documents")
    write_documents(folder)
    with trained_in(folder) as warm:
        yield warm


def tally(said: str) -> int:
    """Return how many lines were translated alone."""
    return int(said.split(" alone because")[0].split(", ")[-1].removesuffix(" lines"))


def test_prepare_tells_its_chunks_and_makes_the_same_ones_again(
    documents: WarmCommandLine,
) -> None:
    folder = documents.folder
    report = (folder / "report").read_text()
    assert "chunks of 300 documents: " in report
    assert "chunks of 100 documents: " in report
    assert " of 1 sentence, " in report
    assert " of 3-4" in report
    assert "nothing changed" in succeed(documents, "prepare", "config.yaml").err
    succeed(documents, "prepare", "config.yaml", "--set", "data_dir=again")
    first, second = contents(folder / "run/data"), contents(folder / "again")
    manifests = [json.loads(each.pop("manifest.json")) for each in (first, second)]
    for manifest in manifests:
        del manifest["seconds"]
    assert manifests[0] == manifests[1]
    assert first == second


def test_each_line_comes_back_in_its_place_and_empty_ones_stay(documents: WarmCommandLine) -> None:
    text = (documents.folder / "test.txt").read_text()
    said = succeed(
        documents, "translate", "run", "test.txt", "--documents", "--report", "health.jsonl"
    )
    wanted, found = every_line(text), every_line(said.out)
    reports = list(map(json.loads, every_line((documents.folder / "health.jsonl").read_text())))
    assert [each["tokens"] > 0 for each in reports] == list(map(bool, wanted))
    assert len(found) == len(wanted)
    assert [not line for line in found] == [not line for line in wanted]
    assert sum(map(str.__eq__, found, wanted)) > 0.7 * len(wanted)
    assert tally(said.err) < 0.7 * len(wanted)  # some chunks came back whole
    assert succeed(documents, "translate", "run", "--documents", stdin=text.encode()).out == (
        said.out
    )
    bare = "".join(f"{line}\n" for line in wanted if line)
    by_ids = "translate", "run", "-", "--document-ids", "test.ids.gz"
    assert every_line(succeed(documents, *by_ids, stdin=bare.encode()).out) == list(
        filter(None, found)
    )
    overlapping = "--documents", "--set", "decoding.context_overlap=2"
    again = every_line(succeed(documents, "translate", "run", "test.txt", *overlapping).out)
    assert [not line for line in again] == [not line for line in wanted]


def test_killed_it_resumes_with_the_documents_it_had_begun_with(
    documents: WarmCommandLine, tmp_path: Path
) -> None:
    ids = gzip.decompress((documents.folder / "more.ids.gz").read_bytes()).split()
    given = ("translate", "run", "more.txt", "--output", tmp_path / "out",
             "--set", "decoding.buffer_lines=9", "--beam-size", 1)  # fmt: skip
    by_ids = (*given, "--document-ids", tmp_path / "ids")
    (tmp_path / "ids").write_bytes(b"\n".join(ids) + b"\n")
    wanted = succeed(documents, *by_ids[:3], *by_ids[5:]).out
    running = documents.start(*by_ids)
    running.wait_until((tmp_path / ".out.journal").is_file)
    running.send(signal.SIGKILL)
    running.finish()
    other = documents(*given, "--documents")
    assert "--documents: by ids then, by empty lines now" in other.err
    (tmp_path / "ids").write_bytes(b"\n".join([b"first", *ids[1:]]) + b"\n")
    assert "more.txt is another text: its first " in documents(*by_ids).err
    (tmp_path / "ids").write_bytes(b"\n".join(b"of " + number for number in ids) + b"\n")
    assert "resuming after" in succeed(documents, *by_ids).err
    assert (tmp_path / "out").read_text() == wanted


def test_merged_shards_of_documents_are_what_one_process_writes(
    documents: WarmCommandLine, tmp_path: Path
) -> None:
    given = ("translate", "run", "test.txt", "--output", tmp_path / "out", "--documents",
             "--set", "decoding.buffer_lines=9", "--beam-size", 1)  # fmt: skip
    whole = succeed(documents, *given)
    wanted = (tmp_path / "out").read_bytes()
    (tmp_path / "out").unlink()
    for number in (1, 2):
        succeed(documents, *given, "--shard", f"{number}/2")
        assert (tmp_path / f"out.shard-{number}-of-2").read_bytes()
    merged = succeed(documents, "merge", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == wanted
    assert tally(merged.err) == tally(whole.err)


def test_a_chunk_that_does_not_come_back_whole_is_translated_line_by_line(
    documents: WarmCommandLine,
) -> None:
    """Ten tokens are enough for a line, and cut off the longer chunks."""
    short = "--set", "decoding.max_length_ratio=0.001"
    alone = succeed(documents, "translate", "run", "test.txt", *short)
    said = succeed(documents, "translate", "run", "test.txt", "--documents", *short)
    assert tally(said.err) > 0
    same = map(str.__eq__, every_line(said.out), every_line(alone.out))
    assert sum(same) >= tally(said.err)
    assert "alone because" not in alone.err
    assert "<sep>" not in alone.out


def test_a_test_set_of_documents_is_scored_as_it_would_be_translated(
    documents: WarmCommandLine,
) -> None:
    text = (documents.folder / "test.txt").read_text()
    said = succeed(documents, "translate", "run", "test.txt", "--documents")
    for name, lines in (("out", said.out), ("ref", text)):
        kept = "".join(f"{line}\n" for line in every_line(lines) if line)
        (documents.folder / name).write_text(kept)
    files = "--hypotheses", "out", "--references", "ref", "--target-lang", "qaa", "--json"
    of_files = json.loads(succeed(documents, "score", *files).out)["sets"][0]
    scored = succeed(documents, "score", "run", "--json")
    assert json.loads(scored.out)["sets"][0]["scores"] == of_files["scores"]
    assert tally(scored.err) == tally(said.err)
    alone = succeed(documents, "score", "run", "--set", "data.context=null")
    assert "alone because" not in alone.err


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("test.txt", "--documents", "--n-best", "2"), "--n-best: of a document there is one"),
        (("test.txt", "--documents", "--alignments", "x"), "--alignments are of lines that are"),
        (("test.txt", "--document-ids", "valid.ids.gz"), "but test.txt has more"),
        (("test.txt", "--document-ids", "nowhere"), "nowhere: there is no such file"),
        (("-", "--document-ids", "-"), "can be read only once"),
        (
            ("test.txt", "--document-ids", "-", "--output", "out", "--shard", "1/2"),
            "each must read the whole text",
        ),
        (("test.txt", "--documents", "--set", "data.context=null"), "has learnt sentences alone"),
    ],
)
def test_what_documents_cannot_be_combined_with_is_named(
    arguments: tuple[str, ...], error: str, documents: WarmCommandLine
) -> None:
    finished = documents("translate", "run", *arguments)
    assert finished.code == 2
    assert error in finished.err
    assert "using run/checkpoints" not in finished.err  # before the model is loaded
    assert finished.out == ""


@pytest.mark.parametrize(
    ("override", "error"),
    [
        ("data.context.tokens=65", "tokens 65 is over model.max_positions 64"),
        ("data.context.tokens=5", "a single sentence could be over the budget of a chunk"),
        ("data.train=[{source: train.txt, target: train.txt}]", "says where its documents end"),
        ("data.train.0.alignments=links", "cannot be used with alignments in data.train"),
        ("model={features: {run: bert}}", "cannot be used with model.features"),
        ("distillation={teachers: [t]}", "cannot be used with distillation"),
        ("data.train.1.documents=valid.ids.gz", "valid.ids.gz has"),
        ("data.train.1.documents=back.ids", "back.ids:3: document 0 comes back after another one"),
    ],
)
def test_documents_that_cannot_be_learnt_are_refused_by_prepare(
    override: str, error: str, warm: WarmCommandLine
) -> None:
    write_documents(warm.folder)
    size = len(every_line((warm.folder / "more.txt").read_text()))
    (warm.folder / "back.ids").write_text("0\n1\n" + "0\n" * (size - 2))
    finished = warm("prepare", "config.yaml", "--set", override)
    assert finished.code == 2
    assert error in finished.err
    assert not (warm.folder / "run/data").exists()


def test_a_given_vocabulary_needs_the_separator(documents: WarmCommandLine, tmp_path: Path) -> None:
    given = tmp_path / "given.model"
    train_tokenizer(["1 2 3 4", "5 6 7 8 9 0"], TokenizerConfig(vocab_size=300), given)
    keys = "--set", f"tokenizer.path={given}", "--set", f"run_dir={tmp_path}/run"
    finished = documents("prepare", "config.yaml", *keys)
    assert finished.code == 2
    assert f"{given}: this vocabulary has no piece <sep>" in finished.err
    hint = 'tokenizer.symbols: ["<sep>"]'
    assert hint in finished.err
    succeed(documents, "prepare", "config.yaml", *keys, "--set", hint.replace(": ", "="))

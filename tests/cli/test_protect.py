"""`data.protect`: spans that a model has never seen come back verbatim, in every way to search."""

import json
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

import mtrain as api
from mtrain.text.protection import RESERVED
from tests.cli.conftest import trained_in
from tests.cli.warm import WarmCommandLine
from tests.conftest import WORDS, every_line, succeed

# a span and a digit to the word of the digit and the span: learnt in few updates
CONFIG = """\
run_dir: run
data:
  source_lang: digits
  target_lang: words
  train: [{source: train.digits, target: train.words}]
  valid: [{source: valid.digits, target: valid.words}]
  test: [{source: test.digits, target: test.words}]
  filters: {max_tokens: 40, max_ratio: 9}
  protect: [placeholders, tags, {regex: 'PN-\\d+'}]
tokenizer: {vocab_size: 320}
model:
  encoder_layers: 1
  decoder_layers: 1
  d_model: 64
  num_heads: 4
  ffn_dim: 128
  max_positions: 40
  dropout: 0.0
training:
  optimizer: muon
  batch_tokens: 256
  max_updates: 80
  learning_rate: 1.0e-2
  warmup_updates: 20
  valid_every: 80
  label_smoothing: 0.0
  precision: fp32
decoding: {beam_size: 2, precision: fp32}
"""
LETTERS = "abcdefghijklmnopqrstuvwxyz_"


def write_pairs(folder: Path, name: str, size: int, draw: random.Random) -> None:
    """Write NAME.digits and NAME.words, each line with a span that hardly any other has."""
    sides: tuple[list[str], list[str]] = ([], [])
    for _ in range(size):
        inner = "".join(draw.choices(LETTERS, k=draw.randint(4, 8)))
        span = draw.choice([f"{{{inner}}}", f'<a href="{inner} x">', f"PN-{draw.randrange(99999)}"])
        digit = draw.randrange(10)
        sides[0].append(f"{span} {digit}")
        sides[1].append(f"{WORDS[digit]} {span}")
    for side, ending in zip(sides, ("digits", "words"), strict=True):
        (folder / f"{name}.{ending}").write_text("\n".join(side) + "\n")


def write_protected_task(folder: Path) -> None:
    """Write the task and its configuration."""
    draw = random.Random(1)
    for name, size in (("train", 1500), ("valid", 30), ("test", 60)):
        write_pairs(folder, name, size, draw)
    (folder / "config.yaml").write_text(CONFIG)


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory, server: None) -> Iterator[WarmCommandLine]:
    """The command line beside a run that has learnt the task. Only to be read."""
    folder = tmp_path_factory.mktemp("protected")
    write_protected_task(folder)
    with trained_in(folder) as warm:
        yield warm


def lines_of(warm: WarmCommandLine, name: str) -> Sequence[str]:
    return every_line((warm.folder / name).read_text())


def test_spans_never_seen_come_back_verbatim_as_they_cannot_without_protection(
    protected: WarmCommandLine, tmp_path: Path
) -> None:
    wanted = lines_of(protected, "test.words")
    found = succeed(protected, "translate", "run", "test.digits")
    assert every_line(found.out) == wanted
    assert ", 0 that lack a span of data.protect" in found.err
    same = ("data.protect=[]", f"run_dir={tmp_path / 'unprotected'}")
    options = [word for option in same for word in ("--set", option)]
    succeed(protected, "prepare", "config.yaml", *options)
    succeed(protected, "train", "config.yaml", *options)
    without = succeed(protected, "translate", tmp_path / "unprotected", "test.digits")
    kept = [span in line for span, line in zip(map(span_of, wanted), every_line(without.out),
            strict=True)]  # fmt: skip
    assert sum(kept) < len(kept) / 10
    assert "data.protect" not in without.err


def span_of(line: str) -> str:
    found = re.search(r"\{\w+\}|<a [^>]*>|PN-\d+", line)
    assert found
    return found[0]


def test_the_report_counts_spans_by_kind_and_validation_scores_raw_references(
    protected: WarmCommandLine,
) -> None:
    lines = [line for line in lines_of(protected, "report") if line.startswith("protect")]
    counts = [re.fullmatch(r"protect  (.+): (\d+) in the sources of (\d+) pairs", line)
              for line in lines]  # fmt: skip
    assert [found and found[1] for found in counts] == ["placeholders", "tags", r"regex PN-\d+"]
    train = lines_of(protected, "train.digits")
    assert abs(sum(int(found[2]) for found in counts if found) - len(train)) < 10  # duplicates
    events = map(json.loads, lines_of(protected, "run/metrics.jsonl"))
    scores = [event["bleu"] for event in events if "bleu" in event]
    assert scores[-1] > 99


@pytest.mark.parametrize(
    "options",
    [
        ("--beam-size", "1"),
        ("--set", "decoding.method=sample", "--set", "decoding.top_k=1"),
        ("--set", "decoding.batch_tokens=30"),
        ("--engine", "ctranslate2"),
        ("--with", "other"),
    ],
    ids=" ".join,
)
def test_every_search_gives_the_spans_back(
    options: tuple[str, ...], protected: WarmCommandLine, tmp_path: Path
) -> None:
    if "ctranslate2" in options:
        pytest.importorskip("ctranslate2")
    other = shutil.copytree(protected.folder / "run", tmp_path / "other")
    given = [other if option == "other" else option for option in options]
    found = succeed(protected, "translate", "run", "test.digits", *given)
    assert every_line(found.out) == lines_of(protected, "test.words")


def test_each_of_several_hypotheses_is_restored(protected: WarmCommandLine) -> None:
    found = succeed(protected, "translate", "run", "test.digits", "--n-best", "2")
    texts = [line.split(" ||| ")[1] for line in every_line(found.out)]
    assert texts[::2] == lines_of(protected, "test.words")
    assert not any(map(RESERVED.search, texts))


def test_what_gets_lost_is_counted_and_a_piece_written_by_hand_is_kept(
    protected: WarmCommandLine,
) -> None:
    run = api.load(protected.folder / "run")
    kept, lost, literal, empty = run.translate(["{new_name} 4", "{a} {b} {c} {d}", "<p7> 5", ""])
    assert (kept.text, kept.num_lost, kept.num_unexpected) == ("four {new_name}", 0, 0)
    assert literal.text == "five <p7>"
    # it has never seen a second span
    assert lost.num_lost == sum(f"{{{name}}}" not in lost.text for name in "abcd") > 0
    assert not RESERVED.search(lost.text)
    assert (empty.text, empty.num_lost) == ("", 0)
    told = protected("translate", "run", stdin=b"{new_name} 4\n{a} {b} {c} {d}\n")
    assert told.out == f"{kept.text}\n{lost.text}\n"
    assert ", 1 that lack a span of data.protect" in told.err


def test_links_count_the_words_of_the_restored_text(
    protected: WarmCommandLine, tmp_path: Path
) -> None:
    sources = ['<a href="x y z"> 7', "{name} 5", '<b id="a"> 3']
    targets = ['seven <a href="x y z">', "five {name}", 'three <b id="a">']
    (tmp_path / "in").write_text("".join(f"{line}\n" for line in sources))
    (tmp_path / "given").write_text("".join(f"{line}\n" for line in targets))
    succeed(protected, "translate", "run", tmp_path / "in", "--output", tmp_path / "out",
            "--alignments", tmp_path / "links")  # fmt: skip
    assert every_line((tmp_path / "out").read_text()) == targets
    aligned = succeed(protected, "align", "run", tmp_path / "in", tmp_path / "given")
    assert aligned.out == (tmp_path / "links").read_text()
    assert "no links" not in aligned.err
    for line, source in zip(every_line(aligned.out), sources, strict=True):
        links = {tuple(map(int, link.split("-"))) for link in line.split()}
        num_words = len(source.split())
        assert links
        assert all(max(link) < num_words for link in links)
        is_linked = [(place, place + 1) in links for place in range(num_words - 1)]
        assert all(is_linked) or not any(is_linked)  # word by word


def test_a_run_goes_on_with_the_same_protection_alone(
    protected: WarmCommandLine, tmp_path: Path
) -> None:
    shutil.copytree(protected.folder, tmp_path, dirs_exist_ok=True)
    with closing(WarmCommandLine(tmp_path)) as warm:
        assert "nothing changed" in succeed(warm, "prepare", "config.yaml").err
        for verb in ("prepare", "train"):
            refused = warm(verb, "config.yaml", "--set", "data.protect=[placeholders]")
            assert refused.code == 2
            assert "data.protect.1: 'tags' -> None" in refused.err
        elsewhere = ("--set", "run_dir=new", "--set", "data_dir=run/data")
        changed = ("--set", "data.protect=[placeholders]")
        refused = warm("train", "config.yaml", *elsewhere, *changed)
        assert refused.code == 2
        assert "prepared with other `data` or `tokenizer` settings" in refused.err
        rebuilt = succeed(warm, "prepare", "config.yaml", *elsewhere, *changed)
        assert "protect  tags" not in rebuilt.out
        assert "protect  placeholders" in rebuilt.out


def test_a_given_vocabulary_needs_the_pieces_and_the_remedy_works(
    protected: WarmCommandLine, tmp_path: Path
) -> None:
    bare = ("--set", "data.protect=[]", "--set", f"run_dir={tmp_path / 'bare'}")
    succeed(protected, "prepare", "config.yaml", *bare)
    path = tmp_path / "bare" / "data" / "tokenizer" / "shared.model"
    given = ("--set", f"tokenizer.path={path}", "--set", f"run_dir={tmp_path / 'given'}")
    refused = protected("prepare", "config.yaml", *given)
    assert refused.code == 2
    assert f"{path}: this vocabulary has no pieces <p1> to <p8>" in refused.err
    remedy = re.search(r"tokenizer\.symbols: (\[.*\])", refused.err)
    assert remedy
    said = succeed(
        protected, "prepare", "config.yaml", *given, "--set", f"tokenizer.symbols={remedy[1]}"
    )
    assert "vocabulary of 328" in said.out


def test_a_run_that_starts_from_one_that_protects_is_warned_if_it_does_not(
    protected: WarmCommandLine, tmp_path: Path
) -> None:
    for protect in ("[]", "[tags]"):
        run = tmp_path / f"protect-{protect}"
        options = [f"run_dir={run}", "model={init_from: run}", "training.max_updates=1",
                   f"data.protect={protect}"]  # fmt: skip
        given = [word for option in options for word in ("--set", option)]
        succeed(protected, "prepare", "config.yaml", *given)
        trained = succeed(protected, "train", "config.yaml", *given)
        warning = (
            r"run learnt with placeholders, tags, regex PN-\d+, and this configuration protects"
        )
        assert (warning in trained.err) is (protect == "[]")


def test_runs_that_protect_otherwise_do_not_translate_together(
    protected: WarmCommandLine, tmp_path: Path
) -> None:
    other = shutil.copytree(protected.folder / "run", tmp_path / "other")
    config = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("  - tags\n", ""))
    refused = protected("translate", "run", "test.digits", "--with", other)
    assert refused.code == 2
    assert "data.protect is placeholders, tags, regex PN-\\d+ in one and placeholders, regex" in (
        refused.err
    )


@pytest.mark.parametrize("target", ["ctranslate2", "huggingface"])
def test_an_export_says_what_its_user_has_to_do(
    target: str, protected: WarmCommandLine, tmp_path: Path
) -> None:
    pytest.importorskip("ctranslate2" if target == "ctranslate2" else "transformers")
    exported = succeed(protected, "export", "run", tmp_path / "out", "--to", target)
    assert "60 lines: greedy search 60 alike" in exported.err
    assert "put <p1> to <p8> in place of protected spans" in exported.err
    if target == "huggingface":
        card = (tmp_path / "out" / "README.md").read_text()
        assert r"`data.protect` (placeholders, tags, regex PN-\d+)" in card


def test_monolingual_text_is_translated_with_its_spans(
    protected: WarmCommandLine, tmp_path: Path
) -> None:
    (tmp_path / "mono.digits").write_text("{fresh} 3\n{other} 4\n")
    train = "{source: train.digits, target: train.words}"
    mono = f"{{text: {tmp_path / 'mono.digits'}, lang: digits}}"
    config = CONFIG.replace(train, f"{train}, {mono}").replace(
        "run_dir: run", f"run_dir: {tmp_path / 'student'}"
    )
    (tmp_path / "student.yaml").write_text(config)
    said = succeed(protected, "backtranslate", "run", tmp_path / "student.yaml")
    assert "0 that lack a span of data.protect" in said.err
    [translation] = tmp_path.glob("student/data-translations/*.words")
    assert translation.read_text() == "three {fresh}\nfour {other}\n"

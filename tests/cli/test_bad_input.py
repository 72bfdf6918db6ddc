"""Bad input and a hostile machine: a clear error, exit code 2, and nothing lost."""

import gzip
import json
import os
import resource
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import torch

from mtrain.checkpoints.collection import list_checkpoints
from mtrain.checkpoints.format import load_checkpoint
from tests.cli.conftest import contents
from tests.cli.hostile import BoundCommandLine, on_a_small_disk
from tests.cli.test_kill import TINIEST
from tests.cli.test_resume import as_options
from tests.cli.warm import WarmCommandLine
from tests.conftest import CommandLine, Finished, succeed

SHORT = ("training.max_updates=2", "decoding.max_length_ratio=1")
SCORE_FILES = ("score", "--hypotheses", "test.words", "--references", "test.words")


def refused(finished: Finished, *words: str) -> None:
    """Check that a command ended in an error for the user that has these words."""
    assert finished.code == 2, finished.err
    assert "Traceback" not in finished.err
    for word in words:
        assert word in finished.err
    assert finished.out == ""


# arguments, and what the message must hold; in a folder with a trained run and its data
REFUSED = {
    "config that is not there": (
        ("train", "nowhere.yaml"),
        ["nowhere.yaml", "there is no such configuration file"],
    ),
    "config that is a folder": (("train", "run"), ["run: Is a directory"]),
    "--set without a value": (
        ("train", "config.yaml", "--set", "training.max_updates"),
        ["--set training.max_updates", "key=value"],
    ),
    "--set with an unknown key": (
        ("train", "config.yaml", "--set", "training.max_update=3"),
        ["--set training.max_update", "unknown key", "did you mean max_updates?"],
    ),
    "--set with an unknown section": (
        ("train", "config.yaml", "--set", "trainig.max_updates=3"),
        ["--set trainig", "did you mean training?"],
    ),
    "--set with a wrong type": (
        ("train", "config.yaml", "--set", "training.max_updates=many"),
        ["--set training.max_updates", "integer", "'many'"],
    ),
    "--set below a value": (
        ("train", "config.yaml", "--set", "training.max_updates.most=3"),
        ["--set training.max_updates.most", "max_updates is a value"],
    ),
    "--set beyond a list": (
        ("train", "config.yaml", "--set", "data.train.7.source=x"),
        ["--set data.train.7.source", "7 is not one of the list's 1 items"],
    ),
    "--set that is no YAML": (
        ("train", "config.yaml", "--set", "seed=[1"),
        ["--set seed=[1", "not a YAML value"],
    ),
    "--set that does not fit the rest": (
        ("train", "config.yaml", "--set", "model.num_heads=5"),
        ["num_heads 5 does not divide d_model 64"],
    ),
    "translate with an unknown key": (
        ("translate", "run", "--set", "decoding.beam_sise=3"),
        ["--set decoding.beam_sise", "did you mean beam_size?"],
    ),
    "run that is not there": (
        ("translate", "nowhere"),
        ["nowhere: there is no such run folder"],
    ),
    "run that is a file": (("translate", "config.yaml"), ["config.yaml: this is a file"]),
    "folder that is no run": (
        ("translate", "run/data"),
        ["run/data: this folder is no run", "config.yaml"],
    ),
    "score on a folder that is no run": (("score", "run/data"), ["run/data: this folder is no"]),
    "unknown checkpoint": (
        ("translate", "run", "--checkpoint", "update-7"),
        ["run: there is no checkpoint update-7", "update-00000400, update-00000600"],
    ),
    "beam of none": (
        ("translate", "run", "--beam-size", "0"),
        ["--set decoding.beam_size", "greater than 0"],
    ),
    "more n-best than beams": (
        ("translate", "run", "--beam-size", "2", "--n-best", "3"),
        ["n_best 3 is more than beam_size 2"],
    ),
    "input that is not there": (
        ("translate", "run", "nowhere.txt"),
        ["nowhere.txt: there is no such file"],
    ),
    "input that is a folder": (("translate", "run", "run"), ["run: this is a folder"]),
    "input that is cut short": (
        ("translate", "run", "cut.gz"),
        ["cut.gz: damaged compressed file"],
    ),
    "output in a folder that is not there": (
        ("translate", "run", "test.digits", "--output", "nowhere/out"),
        ["nowhere/out: there is no folder", "nowhere"],
    ),
    "output that is a folder": (
        ("translate", "run", "test.digits", "--output", "run"),
        ["run: Is a directory"],
    ),
    "output below a file": (
        ("translate", "run", "test.digits", "--output", "config.yaml/out"),
        ["config.yaml", "is a file, not a folder"],
    ),
    "score of nothing": (("score",), ["score takes either a run, or --hypotheses"]),
    "score of a run and files": (
        ("score", "run", *SCORE_FILES[1:]),
        ["score takes either a run, or --hypotheses"],
    ),
    "hypotheses without references": (
        ("score", "--hypotheses", "test.words"),
        ["score takes either a run, or --hypotheses"],
    ),
    "a run against a baseline file": (
        ("score", "run", "--baseline", "test.words"),
        ["--baseline", "--hypotheses"],
    ),
    "files of unequal length": (
        ("score", "--hypotheses", "test.words", "--references", "train.words"),
        ["test.words has 60 lines but train.words has 2000"],
    ),
    "sources of unequal length": (
        (*SCORE_FILES, "--sources", "train.digits"),
        ["train.digits has 2000 lines but test.words has 60"],
    ),
    "hypotheses that are not there": (
        ("score", "--hypotheses", "nowhere", "--references", "test.words"),
        ["nowhere: there is no such file"],
    ),
    "files without a line": (
        ("score", "--hypotheses", os.devnull, "--references", os.devnull),
        ["there is not one line to score"],
    ),
    "a gate that no score fails": ((*SCORE_FILES, "--fail-under", "nan"), ["--fail-under: nan is"]),
    "a gap that no student has": (
        ("distill", "run", "config.yaml", "--fail-if-gap", "inf"),
        ["--fail-if-gap: inf is not a score"],
    ),
    "the language of files for a run": (
        ("score", "run", "--target-lang", "de"),
        ["--target-lang: for --hypotheses and --references"],
    ),
    "files with what belongs to a run": (
        (*SCORE_FILES, "--checkpoint", "update-7"),
        ["--checkpoint and --set belong to a run"],
    ),
    "gate that is no number": ((*SCORE_FILES, "--fail-under", "good"), ["--fail-under", "number"]),
    "a changed model": (
        ("train", "config.yaml", "--set", "model.d_model=128"),
        ["run belongs to another configuration", "model.d_model: 64 -> 128"],
    ),
    "two changed keys": (
        ("train", "config.yaml", "--set", "seed=2", "--set", "training.learning_rate=1.0e-4"),
        ["seed: 1 -> 2", "training.learning_rate: 0.003 -> 0.0001"],
    ),
    "data prepared with other settings": (
        ("train", "config.yaml", "--set", "tokenizer.vocab_size=400", "--set", "run_dir=new",
         "--set", "data_dir=run/data"),
        ["run/data: prepared with other `data` or `tokenizer` settings", "mtrain prepare"],
    ),
    "data not prepared": (
        ("train", "config.yaml", "--set", "run_dir=new"),
        ["new/data: no prepared data here", "mtrain prepare"],
    ),
    "--check of data not prepared": (
        ("train", "config.yaml", "--check", "--set", "run_dir=new"),
        ["new/data: no prepared data here", "mtrain prepare"],
    ),
    "half precision on a CPU": (
        ("train", "config.yaml", "--set", "training.precision=fp16", "--set", "device=cpu",
         "--set", "run_dir=new", "--set", "data_dir=run/data"),
        ["training.precision: fp16 needs a GPU"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_with_a_message_and_nothing_is_changed(
    arguments: Sequence[str], words: list[str], warm: WarmCommandLine, trained_copy: Path
) -> None:
    (trained_copy / "cut.gz").write_bytes(gzip.compress(b"3 1 2\n" * 100)[:-9])
    before = contents(trained_copy)
    refused(warm(*arguments, stdin=b"3 1 2\n"), *words)
    assert contents(trained_copy) == before
    assert not (trained_copy / "new").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    "command", [("train", "config.yaml"), ("translate", "run"), ("score", "run")]
)
def test_a_gpu_that_is_not_there_is_refused(
    command: Sequence[str], warm: WarmCommandLine, trained_copy: Path
) -> None:
    refused(warm(*command, "--set", "device=cuda"), "device: cuda was asked for", "no GPU")


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_key(
    warm: WarmCommandLine, task: Path
) -> None:
    config = (task / "config.yaml").read_text()
    (task / "config.yaml").write_text(config.replace("  batch_tokens", "  batch_token"))
    line = config.split("\n").index("  batch_tokens: 512") + 1
    for verb in ("prepare", "train"):
        refused(
            warm(verb, "config.yaml"),
            f"config.yaml:{line}: unknown key training.batch_token; did you mean batch_tokens?",
        )


def test_all_errors_of_a_config_are_told_at_once(warm: WarmCommandLine, task: Path) -> None:
    config = (task / "config.yaml").read_text()
    for old, new in (("d_model: 64", "d_model: wide"), ("  valid:", "  validd:"), ("bpe", "bp")):
        config = config.replace(old, new)
    (task / "config.yaml").write_text(config)
    refused(warm("train", "config.yaml"), "model.d_model", "data.validd", "'bp'", "data.valid is")


@pytest.mark.parametrize("command", ["translate", "score"])
def test_a_run_that_has_not_been_trained_is_refused(
    command: str, warm: WarmCommandLine, trained_copy: Path
) -> None:
    shutil.rmtree(trained_copy / "run" / "checkpoints")
    refused(warm(command, "run"), "run: there is no checkpoint yet", "mtrain train")


def test_a_run_without_test_sets_cannot_be_scored(
    warm: WarmCommandLine, trained_copy: Path
) -> None:
    none = ("--set", "data.test=[]")
    refused(warm("score", "run", *none), "run: this run has no test set", "data.test")


def test_nothing_of_the_users_in_a_run_dir_is_ever_changed(
    warm: WarmCommandLine, task: Path
) -> None:
    """Neither a file where the run would have its own, nor the configuration that he wrote."""
    for name in ("exp/test/mytest.en", "exp/notes.txt"):
        (task / name).parent.mkdir(parents=True, exist_ok=True)
        (task / name).write_text("precious")
    shutil.copy(task / "config.yaml", task / "exp" / "mine.yaml")
    (task / "own").mkdir()
    shutil.copy(task / "config.yaml", task / "own" / "config.yaml")
    succeed(warm, "prepare", "config.yaml", "--set", "data_dir=data")
    before = contents(task)
    for verb in ("prepare", "train"):
        elsewhere = ("--set", "data_dir=data", "--set")
        said = warm(verb, "exp/mine.yaml", *elsewhere, "run_dir=exp")
        refused(said, "exp: this folder is no run, but there are already: test")
        said = warm(verb, "own/config.yaml", *elsewhere, "run_dir=own")
        refused(said, "own/config.yaml: not written by `mtrain train`, which would overwrite it")
    assert contents(task) == before

    shutil.rmtree(task / "exp" / "test")
    train = ("train", "exp/mine.yaml", *as_options("run_dir=exp", "data_dir=data", *SHORT))
    succeed(warm, *train)
    (task / "exp" / "test" / "mytest.en").write_text("precious")
    (task / "exp" / "tokenizer" / "deeper").mkdir()
    succeed(warm, *train, "--set", "training.max_updates=3")
    assert (task / "exp/test/mytest.en").read_text() == "precious"
    assert (task / "exp/notes.txt").read_text() == "precious"
    assert (task / "exp/tokenizer/deeper").is_dir()


def test_data_prepared_anew_from_other_text_are_refused_by_a_trained_run(
    warm: WarmCommandLine, trained_copy: Path
) -> None:
    for name, line in (("train.digits", "1 1 1 1 1 1\n"), ("train.words", "one\n")):
        with (trained_copy / name).open("a") as file:
            file.write(line)
    before = contents(trained_copy / "run" / "checkpoints")
    assert "2,001 pairs" in succeed(warm, "prepare", "config.yaml").out
    refused(
        warm("train", "config.yaml"), "was trained on other data", "update-00000600", "run/data"
    )
    assert contents(trained_copy / "run" / "checkpoints") == before
    assert succeed(warm, "translate", "run", stdin=b"3 1 2\n").out == "two one three\n"


def test_the_gate_of_a_run_says_no_with_1_and_shows_the_scores(trained: WarmCommandLine) -> None:
    scored = succeed(trained, "score", "run", "--json", "--fail-under", 50)
    (bleu, *_) = json.loads(scored.out)["sets"][0]["scores"]
    failed = trained("score", "run", "--fail-under", 99.9)
    assert failed.code == 1
    assert f"error: held-out: BLEU {bleu['value']:.2f} is under 99.9" in failed.err
    assert f"{bleu['value']:.2f}" in failed.out
    assert bleu["signature"] in failed.out


# -- permissions -----------------------------------------------------------------------------------


def test_a_run_dir_without_write_permission_is_refused(
    bound: BoundCommandLine, trained_copy: Path
) -> None:
    elsewhere = ("--set", "run_dir=locked/run", "--set", "data_dir=run/data")
    refused(bound("train", "config.yaml", *elsewhere), "locked/run: no permission")


def test_a_run_that_may_only_be_read_translates_and_is_not_trained_on(
    bound: BoundCommandLine, trained_copy: Path
) -> None:
    run = trained_copy / "run"
    folders = [run, *(path for path in run.rglob("*") if path.is_dir())]
    for path in run.rglob("*"):
        if path.is_file():
            path.chmod(0o444)
    for folder in folders:
        folder.chmod(0o555)
    try:
        translated = bound("translate", "run", stdin=b"3 1 2\n")
        trained = bound("train", "config.yaml", "--set", "training.max_updates=601")
        written = bound(
            "translate", "run", "test.digits", "--output", trained_copy / "locked" / "out"
        )
    finally:
        for folder in folders:  # or pytest cannot remove them
            folder.chmod(0o755)
    assert (translated.code, translated.out) == (0, "two one three\n")
    refused(trained, "run/", "no permission")
    refused(written, "locked/", "no permission")


# -- a full memory ---------------------------------------------------------------------------------


def test_a_model_that_no_memory_holds_is_refused(mtrain: CommandLine, trained_copy: Path) -> None:
    limit = partial(resource.setrlimit, resource.RLIMIT_AS, (1 << 35, 1 << 35))
    huge = as_options("model.ffn_dim=2147483647", "run_dir=new", "data_dir=run/data", "device=cpu")
    process = mtrain.start("train", "config.yaml", *huge, preexec_fn=limit)
    out, said = process.communicate(timeout=60)
    refused(Finished(process.returncode, out.decode(), said.decode()), "error: out of memory")
    assert not (trained_copy / "new").exists()


# -- a full disk -----------------------------------------------------------------------------------


def test_a_full_disk_ends_training_with_every_checkpoint_whole(
    warm: WarmCommandLine, task: Path
) -> None:
    succeed(warm, "prepare", "config.yaml", "--set", "data_dir=data")
    options = (
        *(*TINIEST, *as_options("data_dir=data", "training.save_every=1")),
        *as_options("training.keep_last=1000", "training.max_updates=1000"),
    )
    train = f"{sys.executable} -m mtrain train config.yaml --set run_dir=disk/run"
    ended = on_a_small_disk(task, 1500, f"{train} {' '.join(options)}")
    refused(ended, "disk/run/checkpoints/update-", "the disk is full", "make room")
    kept = list_checkpoints(task / "copy" / "run" / "checkpoints")
    assert len(kept) > 2
    updates = [
        load_checkpoint(path, with_training=True).state["position"]["update"] for path in kept
    ]
    assert updates == list(range(1, len(kept) + 1))
    assert not list((task / "copy" / "run" / "checkpoints").glob(".*"))

    more = as_options("run_dir=copy/run", f"training.max_updates={len(kept) + 2}")
    gone_on = succeed(warm, "train", "config.yaml", *options, *more)
    assert f"resuming from copy/run/checkpoints/{kept[-1].name}" in gone_on.err


def test_a_full_disk_leaves_no_part_of_an_output(trained_copy: Path) -> None:
    """And what stood under the name stays."""
    fill = "echo older > disk/older; cat /dev/zero > disk/filler 2> /dev/null"
    translate = f"{sys.executable} -m mtrain translate run test.digits"
    for name in ("out", "older"):
        ended = on_a_small_disk(
            trained_copy, 64, f"{{ {fill}; {translate} --output disk/{name}; }}"
        )
        refused(ended, f"disk/{name}: the disk is full")
        copy = trained_copy / "copy"
        assert sorted(path.name for path in copy.iterdir()) == ["filler", "older"]
        assert (copy / "older").read_text() == "older\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [("translate", "run", "test.digits"), SCORE_FILES], ids=str)
def test_an_output_that_takes_nothing_is_an_error(
    arguments: Sequence[str], mtrain: CommandLine, trained_copy: Path
) -> None:
    with Path("/dev/full").open("wb") as full:
        process = mtrain.start(*arguments, stdout=full)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert b"the disk is full" in said
    assert b"Traceback" not in said


def test_help_and_errors_in_a_config_need_no_torch(mtrain: CommandLine, trained_copy: Path) -> None:
    (trained_copy / "torch.py").write_text("raise ImportError('torch was imported')")
    texts = ("test.digits", "test.words")
    for command in (("translate", "run"), ("score", "run"), ("align", "run", *texts),
                    ("attention", "run")):  # fmt: skip
        refused(mtrain(*command, "--set", "sead=1"), "did you mean seed?")
    refused(mtrain("align", "run", *texts, "--reverse", "nowhere"), "nowhere: there is no such run")

"""Fine-tuning a trained run from the command line, and what is refused before it begins."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mtrain.checkpoints.collection import list_checkpoints
from mtrain.checkpoints.format import Checkpoint, load_checkpoint
from tests.cli.conftest import contents
from tests.cli.test_torchrun import run_two
from tests.cli.warm import WarmCommandLine
from tests.conftest import succeed

TUNE = """\
run_dir: tuned
data:
  source_lang: digits
  target_lang: words
  train: [{source: train.digits, target: train.words}]
  valid: [{source: valid.digits, target: valid.words}]
  filters: {max_tokens: 60}
tokenizer: {symbols: [<2xx>, <2yy>]}
model: {init_from: run}
training:
  freeze: ["encoder*"]
  learning_rate_scale: {"*embedding*": 0.1}
  learning_rate: 1.0e-4
  warmup_updates: 1
  max_updates: 4
  valid_every: 2
  keep_last: 9
  precision: fp32
device: cpu
"""
NO_SYMBOLS = ("--set", "tokenizer.symbols=[]")


@pytest.fixture
def folder(trained_copy: Path) -> Path:
    """A copy of the trained run, and a configuration that starts from it."""
    (trained_copy / "tune.yaml").write_text(TUNE)
    return trained_copy


@pytest.fixture(scope="module")
def tuned(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmCommandLine]:
    """The command line beside a run that was tuned for two updates. Only to be read."""
    folder = tmp_path_factory.mktemp("tuned")
    shutil.copytree(trained_run.parent, folder, dirs_exist_ok=True)
    (folder / "tune.yaml").write_text(TUNE)
    (folder / "run2").symlink_to(folder / "run")
    with closing(WarmCommandLine(folder)) as warm:
        succeed(warm, "prepare", "tune.yaml", *NO_SYMBOLS)
        succeed(warm, "train", "tune.yaml", *NO_SYMBOLS, "--set", "training.max_updates=2")
        yield warm


def newest(run: Path) -> Checkpoint:
    return load_checkpoint(list_checkpoints(run / "checkpoints")[-1], with_training=True)


def of_encoder(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights.items() if name.startswith("encoder")}


def test_a_trained_run_is_tuned_with_symbols_and_a_frozen_encoder(
    folder: Path, warm: WarmCommandLine
) -> None:
    before = contents(folder / "run")
    succeed(warm, "prepare", "tune.yaml")
    said = succeed(warm, "train", "tune.yaml").err
    assert "initialised from run (update 600, dev BLEU " in said
    assert "newly initialised: source_embedding.weight (2 of 322 rows, 0.1%); left out: " in said
    assert "the optimiser and the schedule start afresh" in said
    assert " of them learn, the others are frozen), on 2,000 pairs" in said
    assert contents(folder / "run") == before
    base, tuned = newest(folder / "run"), newest(folder / "tuned")
    kept, frozen = of_encoder(base.weights), of_encoder(tuned.weights)
    assert kept.keys() == frozen.keys()
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in kept.items())
    assert not of_encoder(tuned.training)
    assert any(name.startswith("decoder") for name in tuned.training)
    (text,) = warm("translate", "tuned", stdin=b"<2xx> 1 2 3\n").out.splitlines()
    assert "three two one" in text
    succeed(warm, "export", "tuned", "out", "--to", "huggingface")
    card = (folder / "out" / "README.md").read_text()
    assert "after 4 updates, started from the run run." in card
    assert "init_from" not in card  # the path on this machine


def test_a_student_starts_from_every_second_layer(folder: Path, warm: WarmCommandLine) -> None:
    """Patterns name its own layers."""
    model = "model={init_from: {run: run, layers: every_second}, encoder_layers: 1}"
    given = [*NO_SYMBOLS, "--set", model, "--set", "training.freeze=['encoder.0.*']",
             "--set", "training.ema_decay=0.5", "--set", "training.max_updates=2"]  # fmt: skip
    succeed(warm, "prepare", "tune.yaml", *given)
    said = succeed(warm, "train", "tune.yaml", *given).err
    assert "copied 100.0% of " in said
    assert "left out: encoder.1.* (" in said
    base, student = newest(folder / "run").weights, newest(folder / "tuned").weights
    assert base.keys() - student.keys() == {name for name in base if name.startswith("encoder.1.")}
    frozen = [name for name in student if name.startswith("encoder.0.")]
    assert all(torch.equal(student[name], base[name]) for name in frozen)
    refused = warm("train", "tune.yaml", *given, "--set", "model.decoder_layers=3")
    assert refused.code == 2
    assert "model.decoder_layers is 3, neither half of the 2 layers of run nor all" in refused.err
    assert "set model.decoder_layers: 1, half of the run's, or 2, all of them" in refused.err


def test_a_tuning_run_resumes_to_the_same_bits_when_its_base_is_gone(
    folder: Path, warm: WarmCommandLine
) -> None:
    succeed(warm, "prepare", "tune.yaml")
    succeed(warm, "train", "tune.yaml")
    whole = newest(folder / "tuned")
    stopped = sorted((folder / "tuned" / "checkpoints").iterdir())[0]
    assert stopped.name == "update-00000002"
    for path in (folder / "tuned" / "checkpoints").iterdir():
        if path != stopped:
            path.rename(folder / path.name)
    (folder / "run").rename(folder / "gone")
    said = succeed(warm, "train", "tune.yaml").err
    assert "resuming from tuned/checkpoints/update-00000002" in said
    assert "initialised from" not in said
    resumed = newest(folder / "tuned")
    for one, other in ((whole.weights, resumed.weights), (whole.training, resumed.training)):
        assert one.keys() == other.keys()
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_two_processes_tune_as_one_does(folder: Path, warm: WarmCommandLine) -> None:
    options = ("--set", "training.accumulate=2", "--set", "training.batch_tokens=512")
    succeed(warm, "prepare", "tune.yaml")
    succeed(warm, "train", "tune.yaml", *options)
    again = ("--set", "run_dir=two", "--set", "data_dir=tuned/data")
    both = run_two(folder, "train", "tune.yaml", *options, *again)
    assert [each.code for each in both] == [0, 0], both[0].err + both[1].err
    assert [each.err.count("initialised from run") for each in both] == [1, 0]
    one, two = newest(folder / "tuned"), newest(folder / "two")
    assert one.training.keys() == two.training.keys()
    for name, tensor in one.weights.items():
        torch.testing.assert_close(tensor, two.weights[name], atol=1e-4, rtol=1e-3, msg=name)
    for name, tensor in of_encoder(one.weights).items():
        assert torch.equal(tensor, two.weights[name]), name


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ("model.d_model=32", "target_embedding.weight: shape (320, 64) in run, (320, 32) here"),
        ("model.init_from={run: run, parts: [encoder]} model.ffn_dim=64",
         "encoder.0.feed_forward.inner.weight: shape (128, 64) in run, (64, 64) here"),
        ("training.freeze=[enkoder.*]", "training.freeze: enkoder.* matches no parameter"),
        ("training.freeze=['*']", "training.freeze: *: no parameter is left to learn"),
        ("training.learning_rate_scale={x: 1}", "training.learning_rate_scale: x matches no"),
        ("model.init_from=elsewhere", "--set model.init_from: model.init_from: elsewhere: there"),
        ("model.type=rnn", "--set model.type: model.type: rnn cannot start from run, whose"),
        ("tokenizer.symbols=[a b]", "--set tokenizer.symbols: tokenizer.symbols.0: string should"),
    ],
)  # fmt: skip
def test_what_cannot_be_tuned_is_refused_before_anything_is_written(
    options: str, error: str, tuned: WarmCommandLine
) -> None:
    """`prepare` knows some of it; `train` and a dry run know the rest."""
    before = contents(tuned.folder)
    elsewhere = ("--set", "run_dir=new", "--set", "data_dir=tuned/data")
    words = options.replace("} ", "}|").split("|")
    given = [word for option in words for word in ("--set", option)]
    for command in ("train", "train --check"):
        refused = tuned(*command.split(), "tune.yaml", *NO_SYMBOLS, *elsewhere, *given)
        assert refused.code == 2
        assert error in refused.err
        assert "Traceback" not in refused.err
    assert contents(tuned.folder) == before


@pytest.mark.parametrize(
    "change",
    ["model.init_from=run2", "model.init_from={run: run, parts: [encoder]}", "training.freeze=[]",
     "training.learning_rate_scale={}", "training.learning_rate_scale={'*embedding*': 0.2}"],
)  # fmt: skip
def test_what_a_run_starts_from_and_what_learns_stay(change: str, tuned: WarmCommandLine) -> None:
    refused = tuned("train", "tune.yaml", *NO_SYMBOLS, "--set", change)
    assert refused.code == 2
    assert "tuned belongs to another configuration:" in refused.err
    assert change.split("=")[0] in refused.err


def test_a_mark_is_no_symbol(folder: Path, warm: WarmCommandLine) -> None:
    refused = warm("prepare", "tune.yaml", "--set", "tokenizer.symbols=[<x>, </s>]")
    assert refused.code == 2
    assert "tokenizer.symbols.1: </s> is a mark or a byte of the vocabulary" in (refused.err)
    assert not (folder / "tuned").exists()

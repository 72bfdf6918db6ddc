"""A frozen BERT as source features from the command line: `model.features`."""

import re
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import contents
from tests.cli.hostile import on_a_small_disk
from tests.cli.warm import WarmCommandLine
from tests.conftest import succeed, write_task

CONFIG = """\
run_dir: run
device: cpu
data:
  source_lang: digits
  target_lang: words
  train: [{source: train.digits, target: train.words}]
  valid: [{source: valid.digits, target: valid.words}]
  test: [{name: held-out, source: test.digits, target: test.words}]
  filters: {max_tokens: 40}
tokenizer: {vocab_size: 320}
model:
  encoder_layers: 1
  decoder_layers: 1
  d_model: 16
  num_heads: 2
  ffn_dim: 32
  max_positions: 40
  features: {run: bert}
training:
  precision: fp32
  batch_tokens: 128
  max_updates: 6
  warmup_updates: 4
  valid_every: 6
  save_every: 1
  log_every: 1
decoding: {max_length_ratio: 1}
"""
INPUT = b"1 2 3\n\n4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3\n9\n"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, server: None) -> Path:
    """A folder with the small task, a configuration and two BERTs; nothing is prepared."""
    from tests.in_process import train_small_bert  # torch

    folder = tmp_path_factory.mktemp("features")
    write_task(folder, {"train": 120, "valid": 8, "test": 8})
    (folder / "config.yaml").write_text(CONFIG)
    for seed, name in ((1, "bert"), (2, "other-bert")):
        train_small_bert(folder, folder / name, seed)
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    """A copy of the template."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_a_run_holds_the_bert_that_its_model_reads(folder: Path, warm: WarmCommandLine) -> None:
    report = succeed(warm, "prepare", "config.yaml")
    assert "features " in report.out
    assert "states of width 24, layer 2 of bert" in report.out
    assert "GB" in report.err  # said before it is computed

    copied = re.compile(r"and a copy of the BERT of 0\.0\d GB, .* GB free")
    assert copied.search(succeed(warm, "train", "config.yaml", "--check").out)
    killed = warm.start("train", "config.yaml")
    killed.wait_until(lambda: any(folder.glob("run/checkpoints/update-*")))
    killed.send(signal.SIGKILL)
    killed.finish()
    succeed(warm, "train", "config.yaml")
    said = succeed(warm, "translate", "run", stdin=INPUT)
    assert said.out.count("\n") == 4
    scored = succeed(warm, "score", "run").out
    aligned = succeed(warm, "align", "run", "test.digits", "test.words").out
    assert aligned.count("\n") == 8

    (folder / "bert").rename(folder / "gone")
    (folder / "run").rename(folder / "moved")
    assert succeed(warm, "translate", "moved", stdin=INPUT).out == said.out
    assert succeed(warm, "score", "moved").out == scored
    (folder / "moved").rename(folder / "run")
    again = succeed(warm, "prepare", "config.yaml")  # by the copy in the run
    assert "nothing changed" in again.err
    more = ("--set", "training.max_updates=8", "--set", "training.valid_every=8")
    assert not copied.search(succeed(warm, "train", "config.yaml", "--check").out)
    assert "resuming" in succeed(warm, "train", "config.yaml", *more).err

    model = CONFIG[CONFIG.index("model:") : CONFIG.index("training:")]
    tune = CONFIG.replace(model, "model: {init_from: run}\n").replace(
        "run_dir: run", "run_dir: new"
    )
    (folder / "tune.yaml").write_text(tune)
    assert "layer 2 of features" in succeed(warm, "prepare", "tune.yaml").out  # run/features
    assert "copied 100.0%" in succeed(warm, "train", "tune.yaml").err
    assert succeed(warm, "translate", "new", stdin=INPUT).out.count("\n") == 4

    for is_cut in (True, False):
        (weights,) = folder.glob("run/features/checkpoints/*/model.safetensors")
        if is_cut:
            weights.write_bytes(b"x")
        else:
            shutil.rmtree(folder / "run" / "features")
        refused = warm("translate", "run", stdin=INPUT)
        assert refused.code == 2
        assert "run/features: the BERT whose states this model reads cannot be used" in refused.err
        assert "mtrain train" in refused.err
        (folder / "gone").rename(folder / "bert")
        succeed(warm, "train", "config.yaml", *more)  # follows the hint
        (folder / "bert").rename(folder / "gone")
        assert succeed(warm, "translate", "run", stdin=INPUT).out.count("\n") == 4


def test_another_bert_prepares_again_and_a_moved_one_does_not(
    folder: Path, warm: WarmCommandLine
) -> None:
    succeed(warm, "prepare", "config.yaml")
    succeed(warm, "train", "config.yaml")
    (folder / "bert").rename(folder / "elsewhere")
    moved = ("--set", "model.features.run=elsewhere")
    assert "nothing changed" in succeed(warm, "prepare", "config.yaml", *moved).err
    assert "resuming" in succeed(warm, "train", "config.yaml", *moved).err

    other = ("--set", "model.features.run=other-bert")
    elsewhere = ("--set", "run_dir=new", "--set", "data_dir=run/data")
    mismatch = warm("train", "config.yaml", *other, *elsewhere)
    assert mismatch.code == 2
    assert "other-bert: not the BERT that run/data was prepared with" in mismatch.err
    before = contents(folder / "run" / "features")
    assert "nothing changed" not in succeed(warm, "prepare", "config.yaml", *other).err
    refused = warm("train", "config.yaml", *other)
    assert refused.code == 2
    assert "trained on other data" in refused.err
    assert contents(folder / "run" / "features") == before

    other_layer = ("--set", "model.features.layer=1", *moved)
    refused = warm("train", "config.yaml", *other_layer)
    assert refused.code == 2
    assert "features.layer" in refused.err


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["model.features.run=nowhere"], "model.features.run: nowhere: there is no such run"),
        (["model.features.run=empty"], "model.features.run: empty: this folder is no run"),
        (["model.features.run=hub"], "import it first: mtrain import hub RUN"),
        (["model.features.layer=3"], "there is no layer 3: this BERT has 2"),
        (["model.features.layer=-3"], "there is no layer -3: this BERT has 2"),
        (["model.features.layer=0"], "there is no layer 0"),
        (["model.features.drop=1.5"], "model.features.drop"),
        (["model.features.runs=x"], "did you mean run?"),
        (["model={type: rnn, features: {run: bert}}"], "unknown key model.features"),
        (["export_to=[ctranslate2]"], "ctranslate2 cannot hold a model with model.features"),
    ],
)  # fmt: skip
def test_what_is_no_bert_is_refused(
    overrides: list[str], problem: str, folder: Path, warm: WarmCommandLine
) -> None:
    (folder / "empty").mkdir()
    (folder / "hub").mkdir()
    (folder / "hub" / "config.json").write_text('{"model_type": "bert"}')
    options = [part for override in overrides for part in ("--set", override)]
    refused = warm("prepare", "config.yaml", *options)
    assert refused.code == 2
    assert problem in refused.err
    assert not (folder / "run").exists()


def test_a_run_of_another_model_is_refused_and_exports_say_why(
    folder: Path, warm: WarmCommandLine
) -> None:
    succeed(warm, "prepare", "config.yaml")
    succeed(warm, "train", "config.yaml", "--set", "training.max_updates=1")
    refused = warm("prepare", "config.yaml", "--set", "model.features.run=run",
                   "--set", "run_dir=new")  # fmt: skip
    assert refused.code == 2
    assert "run: the model of this run is a transformer" in refused.err
    for arguments in (
        ("export", "run", "out", "--to", "ctranslate2"),
        ("export", "run", "out", "--to", "huggingface"),
    ):
        refused = warm(*arguments)
        assert refused.code == 2
        assert "model.features" in refused.err
    assert not (folder / "out").exists()


def test_features_that_the_disk_has_no_room_for_are_not_begun(
    folder: Path, warm: WarmCommandLine
) -> None:
    succeed(warm, "prepare", "config.yaml", "--set", "data_dir=data")
    files = [path for path in (folder / "data").rglob("*") if path.is_file()]
    pages = sum(-(-path.stat().st_size // 4096) for path in files if path.stem != "features")
    prepare = f"{sys.executable} -m mtrain prepare config.yaml --set data_dir=disk/data"
    ended = on_a_small_disk(folder, 4 * pages, prepare)
    assert ended.code == 2, ended.err
    assert "model.features: " in ended.err
    assert "has room for" in ended.err
    assert [path.name for path in (folder / "copy").iterdir()] == [".data.lock"]

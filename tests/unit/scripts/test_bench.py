"""Test scripts/bench on the small task: each yardstick measures, tells, and leaves the run alone.

Sizes and times are tiny, and no figure is judged.
"""

import gzip
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import pytest
import torch

from mtrain.data.folders import RunFolder
from mtrain.errors import UserError
from mtrain.inference.load import load_run
from mtrain.models.transformer import Transformer
from tests.cli.warm import mtrain_with, run_warm_python
from tests.conftest import TINY_CONFIG, Finished, succeed, write_task

SCRIPTS = Path(__file__).parents[3] / "scripts" / "bench"
POSITIVE_OF_TRAINING = {
    "target_tokens_per_second",
    "lower_quartile",
    "upper_quartile",
    "updates",
    "parameters",
    "busy_processors",
    "peak_memory_gb",
    "gflop_per_second",
    "attainable_gflop_per_second",
    "share_of_attainable",
}


def run(folder: Path, script: str, *arguments: object) -> Finished:
    """Run a yardstick in a folder."""
    return run_warm_python(folder, SCRIPTS / script, *arguments)


def run_cold(folder: Path, script: str, *arguments: object, threads: int = 1) -> Finished:
    """Run a yardstick in a process of its own from the start, as one that spawns others needs."""
    finished = subprocess.run(
        [sys.executable, str(SCRIPTS / script), *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    return Finished(finished.returncode, finished.stdout, finished.stderr)


def measured(
    folder: Path, script: str, *arguments: object, start: Callable[..., Finished] = run
) -> dict[str, Any]:
    """Return what a yardstick that must succeed writes, its table checked for every figure."""
    finished = succeed(start, folder, script, *arguments, "--json", "bench.json")
    report: dict[str, Any] = json.loads((folder / "bench.json").read_text("utf-8"))
    assert report.pop("command").split()[0].endswith(script)
    for part, figures in report.items():
        for name in figures:
            assert any(line.split(name)[0].strip() == part
                       for line in finished.out.split("\n") if name in line)  # fmt: skip
    return report


def content(folder: Path) -> dict[Path, bytes]:
    """Return every file but the yardsticks' own with what it holds."""
    return {path: path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.name != "bench.json"}  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, server: None) -> Path:
    """The small task, prepared, and a run of three updates in `trained`."""
    folder = tmp_path_factory.mktemp("bench")
    write_task(folder, {"train": 500, "valid": 20, "test": 20})
    (folder / "config.yaml").write_text(TINY_CONFIG)
    succeed(run_warm_python, folder, *mtrain_with("prepare", "config.yaml"))
    changes = ("run_dir=trained", "data_dir=run/data", "training.max_updates=3")
    settings = [word for change in changes for word in ("--set", change)]
    succeed(run_warm_python, folder, *mtrain_with("train", "config.yaml", *settings))
    return folder


@pytest.fixture(scope="module")
def training(prepared: Path) -> dict[str, Any]:
    """What the yardstick of training finds."""
    before = content(prepared / "run")
    report = measured(prepared, "train.py", "config.yaml", "--seconds", 1)
    assert content(prepared / "run") == before
    return report


def test_training_is_told_in_positive_figures_and_shares_that_add_up(
    training: dict[str, Any],
) -> None:
    figures = training["training"]
    assert {name for name in POSITIVE_OF_TRAINING if figures[name] > 0} == POSITIVE_OF_TRAINING
    assert figures["lower_quartile"] <= figures["upper_quartile"]
    check_shares(training["time"])
    assert training["machine"]["threads"] == 1


def test_the_time_of_threads_side_by_side_is_not_told_twice(prepared: Path) -> None:
    large = "training.batch_tokens=2000"  # enough for two
    command = ("train.py", "config.yaml", "--set", large, "--seconds", 2)
    report = measured(prepared, *command, start=partial(run_cold, threads=2))
    check_shares(report["time"])
    assert report["machine"]["threads"] == 2


def check_shares(shares: dict[str, float]) -> None:
    assert sum(shares.values()) == pytest.approx(1)
    assert 0 <= shares["share_rest"] < 1  # below 0, something was timed twice
    for part in ("forward", "backward", "optimiser"):
        assert 0 < shares[f"share_{part}"] < 1


def test_a_token_costs_what_the_shapes_say(training: dict[str, Any], prepared: Path) -> None:
    """Of two encoder and two decoder layers of TINY_CONFIG, counted by hand."""
    train = json.loads((prepared / "run/data/manifest.json").read_text())["splits"]["train"]
    source, target = (train["tokens"][side] + train["pairs"] for side in ("source", "target"))
    encoder = 2 * (4 * 64 * 64 + 2 * 64 * 128) + 2 * (2 * 64 * 64)  # with the decoder's memory
    decoder = 2 * (6 * 64 * 64 + 2 * 64 * 128) + train["vocab_size"] * 64
    figures = training["training"]
    found = figures["gflop_per_second"] * 1e9 / figures["target_tokens_per_second"]
    assert found == pytest.approx(6 * (decoder + encoder * source / target), rel=0.02)


def test_engines_translate_the_same_lines_in_turn(prepared: Path) -> None:
    report = measured(
        prepared, "translate.py", "trained", "test.digits", "--engines", "torch,ctranslate2",
        "--beams", "2,1", "--rounds", 2, "--latency", 3, start=run_cold,
    )  # fmt: skip
    parts = [f"beam {beam}, {engine}" for beam in (2, 1) for engine in ("torch", "ctranslate2")]
    assert list(report) == ["machine", *parts]
    for part in parts:
        figures = report[part]
        assert figures["sentences"] == 20
        assert 0 < figures["slowest"] <= figures["sentences_per_second"] <= figures["fastest"]
        assert figures["tokens_per_second"] > figures["sentences_per_second"]
        assert figures["milliseconds_of_one_sentence"] > 0
        assert 0 <= figures["lines_unlike_first"] <= 20
    assert report[parts[0]]["ratio_to_first"] == report[parts[2]]["ratio_to_first"] == 1
    assert report[parts[0]]["lines_unlike_first"] == 0


def test_a_peer_without_its_environment_is_told_how_to_get_it(prepared: Path) -> None:
    finished = run(prepared, "translate.py", "trained", "test.digits", "--engines", "opennmt")
    assert finished.code == 2
    assert "make DIR/opennmt as README.md tells" in finished.err


def test_a_peer_gets_every_weight_by_a_name_of_its_own(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    opennmt_search = importlib.import_module("opennmt_search")
    trained = RunFolder.open(prepared / "trained")
    loaded = load_run(trained, trained.config(), None)
    assert isinstance(loaded.model, Transformer)
    given = list(opennmt_search._weights(loaded.model))
    names = [name for name, _ in given]
    assert len(set(names)) == len(names)
    assert {word for name in names for word in name.split(".") if not word.isdigit()} == {
        "encoder", "decoder", "transformer", "transformer_layers", "self_attn", "context_attn",
        "linear_query", "linear_keys", "linear_values", "final_linear", "feed_forward", "w_1",
        "w_2", "layer_norm", "layer_norm_1", "layer_norm_2", "embeddings", "make_embedding",
        "emb_luts", "pe", "generator", "weight", "bias",
    }  # fmt: skip
    layer = cast(Any, loaded.model.decoder[0])
    query, keys, _ = layer.self_attention.in_projection.weight.chunk(3)
    for name, weight in (
        ("self_attn.linear_query", query),
        ("self_attn.linear_keys", keys),
        ("context_attn.linear_values", layer.cross_attention.memory_projection.weight.chunk(2)[1]),
        ("layer_norm_1", layer.residuals[0].norm.weight),
        ("layer_norm_2", layer.residuals[1].norm.weight),
        ("feed_forward.layer_norm", layer.residuals[2].norm.weight),
    ):
        assert torch.equal(dict(given)[f"decoder.transformer_layers.0.{name}.weight"], weight)
    own = sum(weight.numel() for weight in loaded.model.state_dict().values())
    others = ("generator.bias", "pe")
    assert sum(weight.numel() for name, weight in given if not name.endswith(others)) == own


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("model", {"activation": "gelu"}),
        ("model", {"norm_type": "rms"}),
        ("model", {"positions": "rotary"}),
        ("tokenizer", {"shared": False}),
        ("decoding", {"coverage_penalty": 0.2}),
        ("decoding", {"method": "sample"}),
    ],
)
def test_a_peer_is_not_given_what_it_computes_otherwise(
    section: str, change: dict[str, Any], prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    opennmt_search = importlib.import_module("opennmt_search")
    trained = RunFolder.open(prepared / "trained")
    loaded = load_run(trained, trained.config(), None)
    opennmt_search._check(loaded)
    changed = getattr(loaded.config, section).model_copy(update=change)
    config = loaded.config.model_copy(update={section: changed})
    with pytest.raises(UserError, match="OpenNMT-py"):
        opennmt_search._check(replace(loaded, config=config))


def test_preparing_is_told_beside_bare_encoding(prepared: Path) -> None:
    before = content(prepared)
    report = measured(prepared, "prepare.py", "config.yaml", "--rounds", 1)
    assert content(prepared) == before
    ours, bare = report["prepare"], report["bare encoding"]
    assert ours["pairs"] == 500
    assert ours["peak_memory_mb"] > 20
    assert ours["seconds_with_tokenizer_training"] > 0
    assert bare["share_reached_by_prepare"] == pytest.approx(bare["seconds"] / ours["seconds"])
    letters = sum((prepared / f"train.{side}").stat().st_size for side in ("digits", "words"))
    assert ours["megabytes_per_second"] * ours["seconds"] == pytest.approx(letters / 1e6, rel=1e-3)


def test_waits_are_told(prepared: Path) -> None:
    before = content(prepared)
    report = measured(prepared, "startup.py", "config.yaml", "trained", "--rounds", 1)
    assert content(prepared) == before
    assert all(report[name]["seconds"] > 0
               for name in ("help", "first translation", "first update"))  # fmt: skip


def test_mtrain_trains_by_itself_where_peers_would_stand_beside_it(
    tmp_path: Path, server: None
) -> None:
    write_task(tmp_path, {"train": 500})
    report = measured(
        tmp_path, "side_by_side.py", "train.digits", "train.words", "work", "--peers", "none",
        "--only", "mtrain", "--size", "tiny", "--rounds", 2, "--batch-tokens", 256, "--tokens", 900,
    )  # fmt: skip
    figures = report["mtrain"]
    assert 0 < figures["slowest"] <= figures["target_tokens_per_second"] <= figures["fastest"]
    assert figures["mtrain_is_so_many_times_faster"] == 1
    for side, language in (("digits", "en"), ("words", "de")):
        pieces = (tmp_path / "work" / f"pieces.{language}").read_text().splitlines()
        text = [line.replace(" ", "").replace("\u2581", " ").strip() for line in pieces]
        assert text == (tmp_path / f"train.{side}").read_text().splitlines()


def test_what_is_run_on_a_gpu_runs_here_as_well(
    tmp_path: Path,
    server: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_task(tmp_path, {"train": 400, "valid": 20, "test": 20})
    data = tmp_path / "multi30k"
    data.mkdir()
    for split, name in (("train", "train"), ("valid", "val"), ("test", "test_2016_flickr")):
        for side, language in (("digits", "en"), ("words", "de")):
            text = (tmp_path / f"{split}.{side}").read_bytes()
            (data / f"{name}.{language}.gz").write_bytes(gzip.compress(text))
    monkeypatch.syspath_prepend(str(SCRIPTS))
    gpu = importlib.import_module("gpu")
    record = (gpu.RECORD).read_text("utf-8").replace("max_updates: 4000", "max_updates: 2")
    (tmp_path / "record.yaml").write_text(record, "utf-8")
    tiny = {"SIZES": {"tiny": (1, 32, 64, 2)}, "TRANSLATES": "tiny", "SECONDS": 1, "LITTLE": 2,
            "LINES": 6, "SEEDS": (1,), "RECORD": tmp_path / "record.yaml",
            "LONG_SIZES": ("small",), "LONG": (64,)}  # fmt: skip
    for name, value in tiny.items():
        monkeypatch.setattr(gpu, name, value)

    def call(command: list[str], cwd: Path, stdout: IO[bytes], **others: object) -> int:
        _, *words = command
        start = run_cold if words[0].endswith("translate.py") else run_warm_python
        finished = start(cwd, *words)
        stdout.write(f"{finished.out}{finished.err}".encode())
        return finished.code

    monkeypatch.setattr(gpu.subprocess, "call", call)
    arguments = ["gpu.py", str(data), str(tmp_path / "out"), "--stages",
                 "train,translate,record,long_texts"]  # fmt: skip
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as stopped:
        gpu.main()
    told, warned = capsys.readouterr()
    assert stopped.value.code == 0, told
    assert ("no GPU" in warned) is not torch.cuda.is_available()
    assert told.count("target_tokens_per_second") == 2
    assert told.count("sentences_per_second") == 4
    assert re.search(r"seed 1: [0-9.]+ s in all", told)
    assert "times as fast as full" in told
    assert (tmp_path / "out" / "train-tiny.json").is_file()


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        ("train.py", ("config.yaml",), "mtrain prepare"),
        ("translate.py", ("config.yaml", "config.yaml"), "folder of a run was expected"),
        ("side_by_side.py", ("a", "b", "w", "--peers", "p", "--only", "moses"), "moses is no peer"),
        ("side_by_side.py", ("a", "b", ".", "--peers", "peers"), "this folder is not empty"),
    ],
)
def test_what_is_missing_is_said_and_nothing_written(
    script: str, arguments: tuple[str, ...], said: str, tmp_path: Path, server: None
) -> None:
    (tmp_path / "config.yaml").write_text(TINY_CONFIG)
    finished = run(tmp_path, script, *arguments, "--json", "bench.json")
    assert finished.code == 2
    assert said in finished.err
    assert "Traceback" not in finished.err
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]

"""Checkpoints: whole or refused by name, never overwritten, never executed."""

import ast
import hashlib
import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import mtrain
from mtrain.checkpoints.collection import (
    is_resumable,
    list_checkpoints,
    load_last_whole,
    order_by_quality,
    prune,
)
from mtrain.checkpoints.format import (
    Checkpoint,
    DamagedCheckpoint,
    checkpoint_name,
    load_checkpoint,
    read_state,
    save_checkpoint,
)

FILES = ["manifest.json", "model.safetensors", "state.json", "training.safetensors"]


def save(folder: Path, update: int, fill: float = 1.0, **validation: float) -> Path:
    """Write a small checkpoint of a run that has been validated, or not."""
    state = {"position": {"update": update}, "validation": validation or None}
    weights = {"layer.weight": torch.full((3, 5), fill), "layer.bias": torch.arange(3.0)}
    training = {"layer.weight/step": torch.tensor(float(update))}
    return save_checkpoint(folder, checkpoint_name(update), weights, training, state)


def names(paths: list[Path]) -> list[str]:
    return [path.name.removeprefix("update-") for path in paths]


def load_newest(folder: Path) -> Checkpoint | None:
    return load_last_whole(list_checkpoints(folder), with_training=True)


# -- writing and reading ---------------------------------------------------------------------------


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    torch.manual_seed(1)
    weights = {
        "matrix": torch.randn(4, 6).T,  # not contiguous
        "half": torch.randn(3).bfloat16(),
        "whole": torch.arange(5),
        "scalar": torch.tensor(2.5),
        "parameter": torch.nn.Parameter(torch.randn(2)),
    }
    state = {"position": {"update": 7}, "text": "Größe \u2028", "number": 0.1, "nothing": None}
    path = save_checkpoint(tmp_path, checkpoint_name(7), weights, {"m": torch.ones(2)}, state)
    assert path.name == "update-00000007"
    loaded = load_checkpoint(path, with_training=True)
    assert loaded.state == read_state(path) == state
    assert loaded.weights.keys() == weights.keys()
    for name, tensor in weights.items():
        assert loaded.weights[name].dtype == tensor.dtype
        assert torch.equal(loaded.weights[name], tensor)
    assert torch.equal(loaded.training["m"], torch.ones(2))


def test_a_checkpoint_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        path = save(tmp_path, 1)
    finally:
        os.umask(previous)
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o640}


def test_without_training_tensors_it_is_no_place_to_go_on_from(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, "update-00000001.average", {"w": torch.ones(1)}, {}, {})
    assert not is_resumable(path)
    assert load_checkpoint(path, with_training=True).training == {}
    assert is_resumable(save(tmp_path, 1))


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    paths = [save(tmp_path, 5, fill=fill) for fill in (1.0, 2.0, 3.0)]
    assert names(paths) == ["00000005", "00000005.1", "00000005.2"]
    assert names(list_checkpoints(tmp_path)) == names(paths)
    fills = [
        float(load_checkpoint(path, with_training=True).weights["layer.weight"][0, 0])
        for path in paths
    ]
    assert fills == [1.0, 2.0, 3.0]


def test_what_a_kill_left_is_no_checkpoint_and_goes_with_the_next_save(tmp_path: Path) -> None:
    save(tmp_path, 1)
    for leftover in (".update-00000002.writing", ".update-00000001.1.removing"):
        shutil.copytree(tmp_path / "update-00000001", tmp_path / leftover)
    assert names(list_checkpoints(tmp_path)) == ["00000001"]
    save(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "update-00000001",
        "update-00000002",
    ]


# -- damage ----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two checkpoints, the older with 1s and the newer with 2s."""
    save(tmp_path, 10, bleu=20.0, fill=1.0)
    save(tmp_path, 20, bleu=30.0, fill=2.0)
    return tmp_path


def assert_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The newest is refused by its path, and the one before it taken with a warning."""
    newest = folder / "update-00000020"
    with pytest.raises(DamagedCheckpoint) as refused:
        load_checkpoint(newest, with_training=True)
    assert str(newest) in refused.value.message
    assert refused.value.hint
    capsys.readouterr()
    taken = load_newest(folder)
    assert taken is not None
    assert taken.path == folder / "update-00000010"
    assert float(taken.weights["layer.weight"][0, 0]) == 1.0
    warning = capsys.readouterr().err
    assert warning.startswith("warning: ")
    assert str(newest) in warning


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_anywhere_is_noticed(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "update-00000020" / name
    whole = path.read_bytes()
    places = {0, 1, 8, len(whole) // 3, len(whole) // 2, len(whole) - 2, len(whole) - 1}
    for length in sorted(places):
        path.write_bytes(whole[:length])
        assert_refused(folder, capsys)
    path.unlink()
    assert_refused(folder, capsys)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_anywhere_is_noticed(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "update-00000020" / name
    whole = path.read_bytes()
    generator = random.Random(name)
    for place in generator.sample(range(len(whole)), min(40, len(whole))):
        changed = bytearray(whole)
        changed[place] ^= 1 << generator.randrange(8)
        path.write_bytes(changed)
        assert_refused(folder, capsys)


def replace_with_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "longer by a byte": lambda path: path.write_bytes(path.read_bytes() + b"\n\0"),
    "a folder in place of the file": replace_with_folder,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a number": lambda path: path.write_text("7"),
    "a list": lambda path: path.write_text("[]"),
    "an empty object": lambda path: path.write_text("{}"),
    "null digests": lambda path: path.write_text('{"format": 1, "sha256": null}'),
    "nested without end": lambda path: path.write_text("[" * 100_000),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("name", FILES)
def test_other_damage_is_noticed(
    name: str,
    damage: Callable[[Path], object],
    folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(folder / "update-00000020" / name)
    assert_refused(folder, capsys)


def test_where_none_is_whole_the_newest_is_named(folder: Path) -> None:
    for path in list_checkpoints(folder):
        (path / "state.json").unlink()
    with pytest.raises(DamagedCheckpoint, match="update-00000020"):
        load_newest(folder)
    assert load_last_whole([], with_training=True) is None


def test_a_manifest_of_another_format_is_refused(folder: Path) -> None:
    path = folder / "update-00000020"
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**manifest, "format": 3}))
    with pytest.raises(DamagedCheckpoint, match="format 1 or 2"):
        load_checkpoint(path, with_training=True)


# -- nothing is executed ---------------------------------------------------------------------------


class Hostile:
    """Unpickling one of these writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors", "state.json"])
@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_in_place_of_a_file_runs_no_code(
    name: str, writer: str, folder: Path, tmp_path: Path
) -> None:
    """Digests and all in order, as an attacker would have them."""
    path, marker = folder / "update-00000020", tmp_path / "was-here"
    if writer == "pickle":
        (path / name).write_bytes(pickle.dumps(Hostile(marker)))
    else:
        torch.save({"weight": Hostile(marker)}, path / name)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["sha256"][name] = hashlib.sha256((path / name).read_bytes()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DamagedCheckpoint, match="update-00000020"):
        load_checkpoint(path, with_training=True)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Hostile(marker)))
    assert marker.exists()  # it would have worked


FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_ATTRIBUTES = {("torch", "load"), ("torch", "save"), ("torch", "hub"), ("torch", "jit")}


def forbidden(source: str) -> list[str]:
    """Return what a source does that could run what it reads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names
                      if alias.name.split(".")[0] in FORBIDDEN_MODULES]  # fmt: skip
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            if node.module.split(".")[0] in FORBIDDEN_MODULES:
                found.append(node.module)
            found += [f"{node.module}.{alias.name}" for alias in node.names
                      if (node.module, alias.name) in FORBIDDEN_ATTRIBUTES]  # fmt: skip
        elif isinstance(node, ast.Name) and node.id in FORBIDDEN_CALLS:
            found.append(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) in FORBIDDEN_ATTRIBUTES:
                found.append(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
            found.append(node.arg)
    return found


def test_no_module_of_mtrain_could_run_what_it_reads() -> None:
    assert mtrain.__file__ is not None
    modules = sorted(Path(mtrain.__file__).parent.rglob("*.py"))
    assert len(modules) > 30
    assert {str(path): found for path in modules if (found := forbidden(path.read_text()))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import os, dill.source",
        "from pickle import loads",
        "import torch\ntorch.load(path)",
        "from torch import save",
        "eval(text)",
        "numpy.load(path, allow_pickle=True)",
    ],
)
def test_the_check_above_sees(source: str) -> None:
    assert forbidden(source)
    assert not forbidden(
        "model.eval(); re.compile(x); json.load(f); safetensors.torch.load_file(p)"
    )


# -- which are kept --------------------------------------------------------------------------------


@pytest.mark.parametrize(("metric", "sign"), [("bleu", 1), ("chrf", 1), ("loss", -1)])
def test_order_by_quality_puts_the_best_last(metric: str, sign: int, tmp_path: Path) -> None:
    values = {10: 5.0, 20: 9.0, 30: 7.0, 40: 9.0}
    for update, value in values.items():
        save(tmp_path, update, **{"bleu": 0.0, metric: sign * value})
    save(tmp_path, 5)
    save(tmp_path, 50, **{"bleu": 0.0, metric: float("nan")})
    damaged = save(tmp_path, 60, bleu=99.0)
    (damaged / "state.json").write_text("{}")
    ordered = order_by_quality(list_checkpoints(tmp_path), metric)
    assert [int(name) for name in names(ordered)] == [60, 5, 50, 10, 30, 20, 40]


def test_prune_keeps_the_best_and_the_newest(tmp_path: Path) -> None:
    for update, bleu in ((10, 5.0), (20, 9.0), (30, 7.0), (40, 3.0), (50, 4.0), (60, 1.0)):
        save(tmp_path, update, bleu=bleu)
    prune(tmp_path, "bleu", keep_best=2, keep_last=2)
    assert [int(name) for name in names(list_checkpoints(tmp_path))] == [20, 30, 50, 60]
    assert not list(tmp_path.glob(".*"))


def test_the_best_is_never_removed_however_often_it_is_pruned(tmp_path: Path) -> None:
    generator = random.Random(1)
    best = (float("-inf"), 0)
    for update in range(1, 40):
        measured = {"bleu": round(generator.uniform(0, 30))} if generator.random() < 0.7 else {}
        path = save(tmp_path, update, **measured)
        prune(tmp_path, "bleu", keep_best=1, keep_last=2)
        if measured:
            best = max(best, (measured["bleu"], update))
        kept = [int(name) for name in names(list_checkpoints(tmp_path))]
        assert path in list_checkpoints(tmp_path)
        assert len(kept) <= 3
        if best[1]:
            assert best[1] in kept


def test_checkpoints_of_one_update_count_as_one(tmp_path: Path) -> None:
    for update in (10, 20, 20, 30, 30, 30):
        save(tmp_path, update, bleu=50.0 - update)
    prune(tmp_path, "bleu", keep_best=1, keep_last=2)
    kept = ["00000010", "00000020", "00000020.1", "00000030", "00000030.1", "00000030.2"]
    assert names(list_checkpoints(tmp_path)) == kept
    save(tmp_path, 40)
    prune(tmp_path, "bleu", keep_best=1, keep_last=2)
    assert names(list_checkpoints(tmp_path)) == ["00000010", *kept[3:], "00000040"]


def test_prune_leaves_one_to_go_on_from_where_an_average_is_the_newest(tmp_path: Path) -> None:
    save(tmp_path, 10, bleu=5.0)
    state = {"validation": {"bleu": 6.0}}
    save_checkpoint(tmp_path, "update-00000010.average", {"w": torch.ones(1)}, {}, state)
    prune(tmp_path, "bleu", keep_best=1, keep_last=1)
    assert names(list_checkpoints(tmp_path)) == ["00000010", "00000010.average"]


def test_a_folder_that_is_not_ours_is_neither_removed_nor_counted(tmp_path: Path) -> None:
    notes = tmp_path / "update-notes"
    notes.mkdir()
    (notes / "readme").write_text("mine")
    for update, bleu in ((10, 3.0), (20, 2.0), (30, 1.0)):
        save(tmp_path, update, bleu=bleu)
    prune(tmp_path, "bleu", keep_best=1, keep_last=1)
    assert (notes / "readme").is_file()
    assert names(list_checkpoints(tmp_path)) == ["00000010", "00000030", "notes"]


def test_its_damage_is_told_alike_by_another_process() -> None:
    error = DamagedCheckpoint(Path("update-1"), "no manifest")
    told = pickle.loads(pickle.dumps(error))
    assert (str(told), told.exit_code) == (str(error), error.exit_code)

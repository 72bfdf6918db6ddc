"""`mtrain doctor`: a row a thing, a command for each fault, and 1 if mtrain cannot work.

A broken installation is a folder first on PYTHONPATH, with packages and metadata made up.
"""

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mtrain.commands import doctor_packages
from mtrain.commands.doctor import LEAST_ROOM, folder_row
from mtrain.commands.doctor_row import BROKEN, NOTE, OK, Row
from mtrain.commands.doctor_torch import compiler_row, cpu_row, gpu_row
from tests.cli.hostile import BoundCommandLine
from tests.cli.warm import WarmCommandLine
from tests.conftest import CommandLine, Finished, succeed

OUR_METADATA = """\
Metadata-Version: 2.1
Name: mtrain
Version: 0.1.0
Provides-Extra: plot
Provides-Extra: all
Requires-Dist: torch>=2.9
Requires-Dist: sacrebleu>=2.4
Requires-Dist: no-such-package>=3
Requires-Dist: typer>=0.1
Requires-Dist: no-such-plot>=1; extra == "plot"
Requires-Dist: mtrain[plot]; extra == "all"
"""
TORCHES = {
    "raise ImportError('libcudart.so: cannot open\\nshared object')": (
        "cannot be imported: ImportError: libcudart.so: cannot open"
    ),
    "__version__ = '2.1.0'": "2.1.0, but mtrain needs torch>=2.9",
    "": "cannot be imported: AttributeError",
}


def rows_of(printed: str) -> dict[str, dict[str, str]]:
    """Return the rows of `doctor --json` by their names."""
    return {row["name"]: row for row in json.loads(printed)["rows"]}


def write_metadata(folder: Path, name: str, version: str, text: str = "") -> None:
    """Write what an installer would record of a package."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    short = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (info / "METADATA").write_text(text or short)


@pytest.fixture
def broken(tmp_path: Path) -> Callable[..., Finished]:
    """A command line whose torch, packages and metadata of mtrain are made up."""
    folder = tmp_path / "packages"
    write_metadata(folder, "mtrain", "0.1.0", OUR_METADATA)
    write_metadata(folder, "sacrebleu", "1.5")
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path}

    def run(line: CommandLine, *arguments: str, torch: str, at: Path = tmp_path) -> Finished:
        (folder / "torch").mkdir()
        (folder / "torch" / "__init__.py").write_text(torch)
        process = line.start("doctor", *arguments, env=environment, cwd=at)
        out, err = process.communicate(timeout=60)
        return Finished(process.returncode, out.decode(), err.decode())

    return run


def test_the_table_and_the_json_have_the_same_rows_and_leave_nothing(
    warm: WarmCommandLine,
) -> None:
    table = succeed(warm, "doctor")
    found = succeed(warm, "doctor", "--json")
    rows = rows_of(found.out)
    assert json.loads(found.out)["works"] is True
    lines = [line for line in table.out.splitlines() if not line.lstrip().startswith("->")]
    for line, (name, row) in zip(lines, rows.items(), strict=True):
        assert line.startswith(f"{row['status']:<7} {name} ")
    mended = [row["mend"] for row in rows.values() if row["mend"]]
    assert mended == [line.partition("-> ")[2] for line in table.out.splitlines() if "-> " in line]
    assert all(bool(row["mend"]) == (row["status"] != OK) for row in rows.values())
    assert {"mtrain", "torch", "GPU", "CPU", "precision", "dependencies", "working folder",
            "temporary folder", "Hugging Face cache"} <= set(rows)  # fmt: skip
    extras = {name.removeprefix("extra ") for name in rows if name.startswith("extra ")}
    assert extras == set(doctor_packages.PURPOSES)
    assert "OMP_NUM_THREADS=1" in rows["CPU"]["found"]
    assert (table.err, found.err) == ("", "")
    assert list(warm.folder.iterdir()) == []


@pytest.mark.parametrize(("source", "found"), TORCHES.items(), ids=["error", "old", "empty"])
def test_a_broken_installation_is_rows_and_commands(
    source: str, found: str, mtrain: CommandLine, broken: Callable[..., Finished]
) -> None:
    finished = broken(mtrain, "--json", torch=source)
    assert finished.code == 1
    assert finished.err.startswith("error: does not work: torch, dependencies\n")
    rows = rows_of(finished.out)
    assert rows["torch"]["found"].startswith(found)
    assert f"rename {mtrain.folder}/packages/torch/__init__.py" in rows["torch"]["mend"]
    assert rows["dependencies"]["found"] == (
        "sacrebleu is 1.5, not >=2.4; no-such-package is not installed"
    )
    assert shlex.split(rows["dependencies"]["mend"])[-3:] == [
        *("install", "sacrebleu>=2.4", "no-such-package>=3")
    ]
    assert [name for name in rows if name.startswith("extra ")] == ["extra plot"]
    assert rows["extra plot"]["status"] == NOTE
    assert shlex.split(rows["extra plot"]["mend"])[-1] == "mtrain[plot]"


def test_a_folder_that_may_not_be_written_to_is_a_fault(
    bound: BoundCommandLine, broken: Callable[..., Finished]
) -> None:
    locked = bound.folder / "locked"
    finished = broken(bound, torch="", at=locked)
    assert finished.code == 1
    assert f"{locked}: cannot be written to (Permission denied)" in finished.out
    assert f"-> chmod u+w {locked}\n" in finished.out
    assert "working folder" in finished.err


def test_a_full_disk_is_a_fault_and_a_folder_to_be_made_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert folder_row("x", tmp_path / "new" / "one", "mend").status == OK
    usage = SimpleNamespace(free=LEAST_ROOM - 1)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    row = folder_row("x", tmp_path, "mend")
    assert (row.status, row.mend) == (BROKEN, "mend")
    assert list(tmp_path.iterdir()) == []


class FakeTorch:
    """torch with two GPUs, or built for the CPU, as far as the doctor asks."""

    def __init__(self, is_available: bool, error: str = "", cuda: str | None = "12.8") -> None:
        self.error = error
        self.version = SimpleNamespace(cuda=cuda, hip=None)
        self.cuda = SimpleNamespace(
            is_available=lambda: is_available,
            current_device=lambda: 0,
            get_device_name=lambda _: "NVIDIA H100",
            device_count=lambda: 2,
            mem_get_info=lambda _: (2**30, 80 * 2**30),
        )

    def ones(self, *_: int, device: str) -> Any:
        """Return a matrix, or fail as on a GPU that torch has no code for."""
        if self.error:
            raise RuntimeError(self.error)
        assert device == "cuda:0"
        return np.ones((1, 1))


def test_a_gpu_has_its_memory_or_its_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = gpu_row(FakeTorch(True), "torch")
    assert row == Row("GPU", "NVIDIA H100, one of 2, 80 GiB of memory, 1 GiB free")
    row = gpu_row(FakeTorch(True, "no kernel image\nmore"), "torch")
    assert row.status == BROKEN
    assert row.found == "NVIDIA H100, one of 2, which fails: no kernel image"
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-1)'\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    row = gpu_row(FakeTorch(False, cuda=None), "torch>=2.9")
    assert row.found == "NVIDIA H100, but torch is built for the CPU"
    assert "uninstall --yes torch && " in row.mend
    assert row.mend.endswith("install --index-url=https://pypi.org/simple 'torch>=2.9'")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpu_row(FakeTorch(False), "torch").mend == "unset CUDA_VISIBLE_DEVICES"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert "nvidia-smi shows" in gpu_row(FakeTorch(False), "torch").mend


def test_a_compiler_and_threads_that_fit_need_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    assert "training.compile_layers: false" in compiler_row().mend
    assert cpu_row(4, 4, "4").status == cpu_row(4, 2, None).status == OK
    assert cpu_row(4, 2, "2").mend == "unset OMP_NUM_THREADS"
    assert cpu_row(2, 8, None).mend == "export OMP_NUM_THREADS=2"

"""The source archive and the wheel: built, checked, installed and used as a user would.

The wheel goes into a fresh environment. Its dependencies come from the environment of the tests
through a .pth file, which Python reads after the fresh environment's own packages; the checkout,
which that environment may have installed as editable, stays invisible.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import TINY_CONFIG, write_task

ROOT = Path(__file__).parents[2]
PACKAGE = {
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "mtrain").rglob("*")
    if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".md"
}
CONFIG = TINY_CONFIG.replace("max_updates: 40", "max_updates: 4")


def run(*command: object, folder: Path) -> str:
    """Run a program that must succeed, without this checkout on its path; return its stdout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    finished = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout


@dataclass(frozen=True)
class Installed:
    """A fresh environment with the wheel, and an empty folder to work in."""

    programs: Path
    folder: Path

    def __call__(self, program: str, *arguments: object) -> str:
        """Run a program of the environment."""
        return run(self.programs / program, *arguments, folder=self.folder)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive and the wheel, which is built from that archive."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"  # a copy: a build leaves files behind
    hidden = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("mtrain", "tests", "scripts", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=hidden)
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile"):
        shutil.copy(ROOT / name, source)
    built = folder / "dist"
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", built, source, folder=folder)
    return built


@pytest.fixture(scope="module")
def installed(archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel, installed without its dependencies; they are the tests' own."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", folder=folder)
    programs = folder / "venv" / "bin"
    (wheel,) = archives.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--python", programs / "python", "install"]
    run(*pip, "-q", "--no-deps", "--no-index", wheel, folder=folder)
    (packages,) = (folder / "venv").glob("lib/python*/site-packages")
    dependencies = [path for path in sys.path if path.endswith("-packages")]
    (packages / "dependencies.pth").write_text("".join(f"{path}\n" for path in dependencies))
    (folder / "work").mkdir()
    return Installed(programs, folder / "work")


def names_in(archive: Path) -> set[str]:
    """Return the files of an archive; those of a source archive without its top folder."""
    if archive.suffix == ".whl":
        return set(zipfile.ZipFile(archive).namelist())
    with tarfile.open(archive) as file:
        return {name.name.partition("/")[2] for name in file.getmembers() if name.isfile()}


@pytest.mark.parametrize(
    ("pattern", "is_ours"),
    [
        ("*.whl", lambda name: ".dist-info/" not in name),
        ("*.tar.gz", lambda name: name.startswith(("mtrain/", "tests", "scripts", "configs"))),
    ],
    ids=["wheel", "source-archive"],
)
def test_an_archive_holds_the_whole_package_and_nothing_beside_it(
    pattern: str, is_ours: Callable[[str], bool], archives: Path
) -> None:
    (archive,) = archives.glob(pattern)
    assert {"mtrain/py.typed", "mtrain/evaluation/attention_page.html"} <= PACKAGE
    assert set(filter(is_ours, names_in(archive))) == PACKAGE


def test_an_index_would_accept_the_archives(archives: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", *archives.iterdir(), folder=archives)


def test_the_installed_wheel_translates_away_from_the_checkout(installed: Installed) -> None:
    where = "import mtrain.cli; print(mtrain.__file__, mtrain.cli.__file__)"
    for imported in installed("python", "-c", where).split():
        assert Path(imported).is_relative_to(installed.programs.parent)
    assert "translate" in installed("mtrain", "--help")
    write_task(installed.folder, {"train": 300, "valid": 12, "test": 12})
    (installed.folder / "config.yaml").write_text(CONFIG)
    assert "300 pairs kept" in installed("mtrain", "prepare", "config.yaml")
    assert "update" in installed("mtrain", "train", "config.yaml")
    assert installed("mtrain", "translate", "run", "test.digits").count("\n") == 12
    assert "BLEU" in installed("mtrain", "score", "run")

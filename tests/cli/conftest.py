"""Fixtures for the tests of the verbs: a command line without start-up time, and a trained run."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.cli.hostile import BoundCommandLine
from tests.cli.warm import WarmCommandLine
from tests.conftest import TINY_CONFIG, made_once, succeed, write_task


@pytest.fixture
def warm(tmp_path: Path, server: None) -> Iterator[WarmCommandLine]:
    """The command line without start-up, in the test's own folder."""
    with closing(WarmCommandLine(tmp_path)) as command_line:
        yield command_line


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory: pytest.TempPathFactory, server: None) -> Path:
    """A run that has learnt the small task; config.yaml and data lie beside it. Only to be read."""

    def make(folder: Path) -> None:
        write_task(folder, {"train": 2000, "valid": 60, "test": 60})
        config = TINY_CONFIG.replace("max_updates: 40", "max_updates: 600")
        (folder / "config.yaml").write_text(config.replace("valid_every: 20", "valid_every: 200"))
        with closing(WarmCommandLine(folder)) as warm:
            succeed(warm, "prepare", "config.yaml")
            succeed(warm, "train", "config.yaml")

    return made_once(tmp_path_factory, "trained", make) / "run"


@contextmanager
def trained_in(folder: Path) -> Iterator[WarmCommandLine]:
    """Yield the command line beside a run of the folder's config.yaml; `report` is prepare's."""
    with closing(WarmCommandLine(folder)) as warm:
        (folder / "report").write_text(succeed(warm, "prepare", "config.yaml").out)
        succeed(warm, "train", "config.yaml")
        yield warm


@pytest.fixture
def trained(trained_run: Path) -> Iterator[WarmCommandLine]:
    """The command line beside the trained run, for what leaves it as it is."""
    with closing(WarmCommandLine(trained_run.parent)) as command_line:
        yield command_line


@pytest.fixture
def trained_copy(tmp_path: Path, trained_run: Path) -> Path:
    """The test's own folder with a copy of the trained run, its config.yaml and its data."""
    shutil.copytree(trained_run.parent, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def bound(tmp_path: Path) -> BoundCommandLine:
    """The command line, bound by permissions even as root, beside a folder `locked`."""
    return BoundCommandLine(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with what it holds."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }

"""Folders that an earlier mtrain left: prepared data and a run of version a745677.

The archive holds six corpus files, a configuration that names no normalization, and what `prepare`
and `train` of that version made of them.
"""

import tarfile
from pathlib import Path

import pytest

from tests.cli.warm import WarmCommandLine
from tests.conftest import every_line, succeed

ARCHIVE = Path(__file__).parents[1] / "fixtures" / "prepared-and-trained-at-a745677.tar.xz"


@pytest.fixture(autouse=True)
def _old_folders(tmp_path: Path) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path)


def test_training_resumes_in_an_old_run_on_old_data(warm: WarmCommandLine) -> None:
    done = succeed(warm, "train", "config.yaml", "--set", "training.max_updates=9")
    assert "resuming from run/checkpoints/update-00000006" in done.err
    assert "9" in every_line(done.out)[-2]


def test_unchanged_inputs_do_nothing_to_old_data(warm: WarmCommandLine, tmp_path: Path) -> None:
    before = (tmp_path / "data" / "manifest.json").read_bytes()
    assert "nothing changed" in succeed(warm, "prepare", "config.yaml").err
    assert (tmp_path / "data" / "manifest.json").read_bytes() == before


def test_old_runs_keep_the_normalization_that_was_the_default(
    warm: WarmCommandLine, tmp_path: Path
) -> None:
    """Said in the configuration, another one is another run."""
    option = "tokenizer.normalization=nmt_nfkc"
    more = ("--set", "training.max_updates=9")
    succeed(warm, "train", "config.yaml", "--set", option, *more)
    refused = warm("train", "config.yaml", "--set", "tokenizer.normalization=identity", *more)
    assert refused.code == 2
    assert "settings" in refused.err


def test_an_old_run_translates_and_is_scored(warm: WarmCommandLine) -> None:
    done = succeed(warm, "translate", "run", "test.digits")
    assert len(every_line(done.out)) == 6
    assert "BLEU" in succeed(warm, "score", "run").out

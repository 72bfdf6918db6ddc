"""Shared by unit tests: the files of `configs/`, and where its configurations load."""

from pathlib import Path

import pytest

from mtrain.config import load_config
from mtrain.config.load import dump_config

CONFIGS = Path(__file__).parents[2] / "configs"
SUITES = sorted(CONFIGS.glob("**/suite-*.y*ml"))  # for `mtrain score --suite`
PRESETS = sorted(set(CONFIGS.glob("**/*.y*ml")) - set(SUITES))


@pytest.fixture
def beside_base_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder with the runs that presets start from, without weights."""
    monkeypatch.chdir(tmp_path)
    base = load_config(CONFIGS / "bert-small.yaml")
    (base.run_dir / "tokenizer").mkdir(parents=True)
    (base.run_dir / "tokenizer" / "shared.model").touch()
    (base.run_dir / "config.yaml").write_text(dump_config(base))

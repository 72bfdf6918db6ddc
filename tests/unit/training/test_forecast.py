"""What a dry run says no to."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from mtrain.commands import train
from mtrain.errors import EXIT_GATE_FAILED, UserError
from mtrain.training import forecast
from tests.in_process import small_config


def test_a_run_that_does_not_fit_on_the_disk_is_a_no(
    small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    config = small_config(small_task, tmp_path / "run", {"max_updates": 2})
    with pytest.raises(UserError, match="NOT ENOUGH") as refused:
        train.check(config)
    assert refused.value.exit_code == EXIT_GATE_FAILED
    assert not config.run_dir.exists()

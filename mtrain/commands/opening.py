"""Opens the run that a verb works with, before the wait for torch. Knows no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mtrain.data.folders import OpenedRun, RunFolder


def open_run(
    path: Path,
    overrides: Sequence[str] | None,
    options: Mapping[str, int | str | None] | None = None,
) -> OpenedRun:
    """Open a run and its configuration, with `options` (a value for a key) and `overrides`.

    Raises UserError for a folder that is no run and for a wrong value.
    """
    given = [f"{key}={value}" for key, value in (options or {}).items() if value is not None]
    run = RunFolder.open(path)
    return run, run.config((*(overrides or ()), *given))

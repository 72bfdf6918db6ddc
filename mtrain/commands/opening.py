"""Opens the run of a command without importing torch, so that errors appear at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mtrain.config.purpose import check_translates
from mtrain.data.folders import OpenedRun, RunFolder, open_alike


def open_run(
    path: Path,
    overrides: Sequence[str] | None,
    options: Mapping[str, int | str | None] | None = None,
) -> OpenedRun:
    """Open a run and its configuration, with `overrides` and then `options` (key to value) applied.

    Raises UserError if the folder is not a run or a value is invalid.
    """
    given = [f"{key}={value}" for key, value in (options or {}).items() if value is not None]
    run = RunFolder.open(path)
    return run, run.config((*(overrides or ()), *given))


def open_translator(
    path: Path,
    overrides: Sequence[str] | None,
    options: Mapping[str, int | str | None] | None = None,
) -> OpenedRun:
    """Open a run as `open_run` does. Raises UserError if its model does not translate."""
    opened = open_run(path, overrides, options)
    check_translates(opened[1])
    return opened


def with_others(opened: OpenedRun, paths: Sequence[Path] | None) -> list[OpenedRun]:
    """Return an opened run and those to translate together with it.

    Raises UserError if a folder is not a run.
    """
    return [opened, *open_alike(opened[1], paths or ())]

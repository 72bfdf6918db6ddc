"""Opens the run of a command without importing torch, so that errors appear at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mtrain.config.purpose import check_translates
from mtrain.data.folders import OpenedRun, RunFolder, open_alike
from mtrain.errors import UserError

# how other programs compute
EXACT: dict[str, int | str | None] = {
    "device": "cpu",
    "decoding.precision": "fp32",
    "decoding.engine": "torch",
    "decoding.method": "beam",
    "decoding.n_best": 1,
}


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


def reversed_languages(overrides: Sequence[str] | None) -> list[str]:
    """Return overrides for a run of the reverse direction: the languages to choose, exchanged."""
    languages = ["decoding.source_lang", "decoding.target_lang"]
    other = dict(zip(languages, reversed(languages), strict=True))
    pairs = [each.partition("=") for each in overrides or ()]
    return [f"{other.get(key.strip(), key)}{sign}{value}" for key, sign, value in pairs]


def with_others(opened: OpenedRun, paths: Sequence[Path] | None) -> list[OpenedRun]:
    """Return an opened run and those to translate together with it.

    Raises UserError if a folder is not a run.
    """
    return [opened, *open_alike(opened[1], paths or ())]


def open_comparable(
    path: Path, other_path: Path, overrides: Sequence[str] | None
) -> tuple[OpenedRun, OpenedRun]:
    """Open two runs to compare.

    Raises UserError for the same run twice, for runs of different kinds, or without a direction in
    common.
    """
    opened = open_run(path, overrides), open_run(other_path, overrides)
    (run, config), (other, other_config) = opened
    if run.path.resolve() == other.path.resolve():
        raise UserError(
            f"{path} and {other_path} are the same run", "name two runs, the baseline first"
        )
    kinds = [each.learns_from_text for each in (config, other_config)]
    if kinds[0] != kinds[1]:
        told = {True: "fills masked tokens", False: "translates"}
        raise UserError(
            f"{path} {told[kinds[0]]} and {other_path} {told[kinds[1]]}: they have no score in "
            "common",
            "compare two runs that do the same",
        )
    directions = [list(map("-".join, each.data.directions)) for each in (config, other_config)]
    if not kinds[0] and not set(directions[0]) & set(directions[1]):
        raise UserError(
            f"{path} translates {', '.join(directions[0])} and {other_path} "
            f"{', '.join(directions[1])}: no direction in common",
            "compare two runs that translate between the same languages",
        )
    return opened

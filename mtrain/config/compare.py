"""Compare two configurations, and tell moved files from real differences."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtrain.config.run import Config

PLACE = re.compile(
    r"data\.(train|valid|watch|test)\.\d+\.(source|target|alignments|path|hub)"
    r"|tokenizer\.path(\.source|\.target)?"
)
TABLE_KIND = re.compile(r"\.(tsv|jsonl|parquet)(\.\w+)?$")

Differences = dict[str, tuple[Any, Any]]  # key -> old and new value


def differences(old: dict[str, Any], new: dict[str, Any]) -> Differences:
    """Return the keys whose values differ; a missing key counts as null."""
    before, after = _flatten(old), _flatten(new)
    return {
        key: (before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    }


def changed_keys(old: Config, new: Config, allowed: Sequence[str]) -> Differences:
    """Return the differences of two configurations outside the `allowed` keys."""
    found = differences(old.model_dump(mode="json"), new.model_dump(mode="json"))
    return {
        key: values
        for key, values in found.items()
        if not any(key == name or key.startswith(f"{name}.") for name in allowed)
    }


def describe(changed: Differences) -> str:
    """Return one line `key: old -> new` per difference."""
    return "".join(f"\n  {key}: {old!r} -> {new!r}" for key, (old, new) in changed.items())


def only_moved(changed: Differences) -> bool:
    """Tell whether every difference is a changed file path; file contents are not compared."""
    return all(
        PLACE.fullmatch(key) and _kind(key, old) == _kind(key, new)
        for key, (old, new) in changed.items()
    )


def _kind(key: str, path: str | None) -> str | None:
    """Return the kind of a file, which decides how it is read, or None for no path."""
    if path is None or not key.startswith("data.") or not key.endswith(".path"):
        return path and "file"
    found = TABLE_KIND.search(Path(path).name)
    return found[1] if found else ""


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        if isinstance(value, dict | list):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat

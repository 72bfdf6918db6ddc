"""Compare configurations with each other and with the defaults; tell moved files from changes."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from mtrain.config.corpora import EMPTY_LINES
from mtrain.config.decoding import DecodingConfig
from mtrain.config.run import Config
from mtrain.config.section import constants

PLACE = re.compile(
    r"data\.(train|valid|watch|test)\.\d+\.(source|target|alignments|documents|path|hub|text)"
    r"|tokenizer\.path(\.source|\.target)?|model\.features\.run|distillation\.teachers\.\d+"
)
TABLE_KIND = re.compile(r"\.(tsv|jsonl|parquet)(\.\w+)?$")

TAKEN_FROM_TRAIN = "data.test.from_train"  # decides what is left to train on

# Keys that may change on resume: duration, validation, logging, checkpoint retention, device.
# Every other key affects what the model learns; a change needs a new run.
CHANGEABLE_ON_RESUME = (
    "run_dir",
    "data_dir",
    "device",
    "export_to",
    *(f"decoding.{key}" for key in DecodingConfig.model_fields if not key.startswith("alignment_")),
    "training.compile_layers",
    "training.gradient_reduction",
    "training.sharding",
    "training.max_updates",
    "training.max_minutes",
    "training.valid_every",
    "training.save_every",
    "training.valid_metric",
    "training.patience",
    "training.keep_best",
    "training.keep_last",
    "training.average_checkpoints",
    "training.log_every",
    "training.tensorboard",
    "data.watch",
    "data.test",
)

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
    """Return the differences of two configurations outside the `allowed` keys.

    A test set that is taken from train is never allowed to change: train would.
    """
    found = differences(old.model_dump(mode="json"), new.model_dump(mode="json"))
    return {
        key: values
        for key, values in found.items()
        if key == TAKEN_FROM_TRAIN
        or not any(key == name or key.startswith(f"{name}.") for name in allowed)
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


def without_defaults(config: Config) -> dict[str, Any]:
    """Return the configuration's tree with the keys that differ from their defaults.

    Loads as an equal configuration. If it starts from another run, `model` and `tokenizer` are
    whole: what they left out would be taken over from that run.
    """
    tree = config.model_dump(mode="json")
    kept = _without_defaults(config, tree)
    if config.model.init_from is not None:
        kept |= {name: tree[name] for name in ("model", "tokenizer")}
    return {name: kept[name] for name in tree if name in kept}


def _without_defaults(value: Any, tree: Any, default: Any = None) -> Any:
    """Return what of a value's `tree` has to be written where `default` would be taken."""
    if isinstance(value, list | tuple):
        return [_without_defaults(*item) for item in zip(value, tree, strict=True)]
    if not isinstance(value, BaseModel):
        return tree
    names = [] if type(value) is type(default) else constants(type(value))
    kept = {}
    for name, field in type(value).model_fields.items():
        own = getattr(value, name)
        usual = field.get_default(call_default_factory=True, validated_data=vars(value))
        if field.is_required() or name in names or own != usual:
            kept[name] = _without_defaults(own, tree[name], usual)
    return kept


def _kind(key: str, path: str | None) -> str | None:
    """Return the kind of a file, which decides how it is read, or None for no path."""
    if path == EMPTY_LINES and key.endswith(".documents"):
        return path
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

"""The manifest of a data folder: the current format and the reading of earlier ones.

`settings` holds the keys of `data` and `tokenizer` that differ from their defaults, so that
prepared folders stay readable when a key is added.
"""

import json
from pathlib import Path
from typing import Any

from mtrain.config.data import DataConfig
from mtrain.config.run import Config
from mtrain.config.tokenizer import TokenizerConfig
from mtrain.data.store import translation_columns
from mtrain.errors import UserError

FORMAT = 2
NAME = "manifest.json"
# Former defaults by manifest format: folders of that format were prepared with these where the
# configuration leaves the key out.
OLD_DEFAULTS: dict[int, dict[str, Any]] = {1: {"normalization": "nmt_nfkc"}}
# Keys that say how corpora are mixed in training. They do not change the folder.
MIX: Any = {"sampling_temperature": True, "stages": True, "train": {"__all__": {"weight"}}}


def data_settings(config: Config) -> dict[str, Any]:
    """Return the settings that determine a data folder's content, without those at defaults."""
    settings = _settings(config.data, config.tokenizer)
    if config.learns_from_text:
        settings["learns_from_text"] = True
    if config.features is not None:  # the model is compared by content
        settings["features"] = {"layer": config.features.layer}
    if config.kept_top_k is not None:  # so is the teacher
        settings["distillation"] = {"top_k": config.kept_top_k}
    return settings


def _settings(data: DataConfig, tokenizer: TokenizerConfig) -> dict[str, Any]:
    return {
        "data": data.model_dump(mode="json", exclude_defaults=True, exclude=MIX),
        "tokenizer": tokenizer.model_dump(mode="json", exclude_defaults=True),
    }


def read_manifest(folder: Path, name: str = NAME) -> dict[str, Any]:
    """Read the manifest of a folder, or its copy of another name, in the current layout.

    Raises `UserError` if it is missing, damaged or of an unknown format.
    """
    path = folder / name
    try:
        manifest: dict[str, Any] = dict(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        raise UserError(
            f"{folder.absolute()}: no prepared data here", "run first: mtrain prepare CONFIG.yaml"
        ) from None
    except (ValueError, TypeError):
        raise UserError(
            f"{path}: damaged", "remove the folder and run `mtrain prepare` again"
        ) from None
    written = manifest.get("format")
    if written == 1:
        manifest = _from_format_1(manifest)
    elif written != FORMAT:
        raise UserError(
            f"{folder}: prepared by another version of mtrain",
            f"remove the folder and run `mtrain prepare` again (formats 1 to {FORMAT} are read)",
        )
    return manifest


def watch_split(name: str) -> str:
    """Return the name of the split, and of the folder, with the tokens of a watch set."""
    return f"watch-{name}"


def with_old_defaults(config: Config, manifest: dict[str, Any]) -> Config:
    """Return the configuration with the former defaults of the manifest's format."""
    old = OLD_DEFAULTS.get(manifest["format"], {})
    left_out = {key: value for key, value in old.items()
                if key not in config.tokenizer.model_fields_set}  # fmt: skip
    tokenizer = config.tokenizer.model_copy(update=left_out)
    return config.model_copy(update={"tokenizer": tokenizer})


def _from_format_1(manifest: dict[str, Any]) -> dict[str, Any]:
    """Add columns to the splits and remove default values from the settings.

    `format` stays 1, because `with_old_defaults` depends on it.
    """
    data, tokenizer = (manifest["settings"][section] for section in ("data", "tokenizer"))
    splits = {
        name: {
            **split,
            "columns": translation_columns(split["vocab_size"], "links" in split),
        }
        for name, split in manifest["splits"].items()
    }
    settings = _settings(DataConfig.model_validate(data), TokenizerConfig.model_validate(tokenizer))
    return {**manifest, "splits": splits, "settings": settings}

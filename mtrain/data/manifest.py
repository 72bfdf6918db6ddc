"""The manifest of a data folder: its format, and how earlier formats are read.

`settings` holds the keys of `data` and `tokenizer` that differ from their defaults, so that a key
added later leaves prepared folders readable.
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
# defaults that a format had before they were changed: a configuration that leaves the key out
# meant these when the folder was prepared
OLD_DEFAULTS: dict[int, dict[str, Any]] = {1: {"normalization": "nmt_nfkc"}}


def data_settings(config: Config) -> dict[str, Any]:
    """Return the settings that decide what a data folder holds, without those left at defaults."""
    return _settings(config.data, config.tokenizer)


def _settings(data: DataConfig, tokenizer: TokenizerConfig) -> dict[str, Any]:
    return {
        "data": data.model_dump(mode="json", exclude_defaults=True),
        "tokenizer": tokenizer.model_dump(mode="json", exclude_defaults=True),
    }


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return what `prepare` wrote about a folder, as the present format has it.

    Raises `UserError` if there is none, it is damaged, or of a format that is not known.
    """
    path = folder / NAME
    try:
        manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{folder.absolute()}: no prepared data here", "run first: mtrain prepare CONFIG.yaml"
        ) from None
    except ValueError:
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


def with_old_defaults(config: Config, manifest: dict[str, Any]) -> Config:
    """Return a configuration as it was meant when a folder of an earlier format was prepared."""
    old = OLD_DEFAULTS.get(manifest["format"], {})
    left_out = {key: value for key, value in old.items()
                if key not in config.tokenizer.model_fields_set}  # fmt: skip
    tokenizer = config.tokenizer.model_copy(update=left_out)
    return config.model_copy(update={"tokenizer": tokenizer})


def _from_format_1(manifest: dict[str, Any]) -> dict[str, Any]:
    """Give splits their columns, and leave out of the settings what is at its default.

    The format stays 1, so that `with_old_defaults` knows.
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

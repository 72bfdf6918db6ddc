"""`mtrain config`: a configuration without its defaults, the reference, and the JSON Schema."""

import json
from collections.abc import Sequence
from pathlib import Path

from mtrain.config import load_config
from mtrain.config.compare import without_defaults
from mtrain.config.describe import json_schema
from mtrain.config.load import dump_tree
from mtrain.config.reference import reference
from mtrain.errors import UserError

__all__ = ["check_request", "reference", "schema", "shorten"]


def check_request(
    path: Path | None, schema: bool, reference: bool, overrides: Sequence[str]
) -> None:
    """Raise UserError unless one thing is asked for, and overrides have a file."""
    if [path is not None, schema, reference].count(True) != 1:
        raise UserError(
            "config takes either a configuration, or --schema, or --reference",
            "type one of: mtrain config my.yaml; mtrain config --schema; mtrain config --reference",
        )
    if overrides and path is None:
        raise UserError(
            "--set replaces a value of a configuration, and none is given",
            f"write for example: mtrain config my.yaml --set {overrides[0]}",
        )


def shorten(path: Path, overrides: Sequence[str]) -> str:
    """Return the keys of a configuration that differ from their defaults, as YAML.

    It loads as an equal configuration. Raises UserError if the file or an override is invalid.
    """
    config = load_config(path, overrides)
    comments = ["# keys that differ from their defaults; mtrain config --reference lists all"]
    if config.model.init_from is not None:
        comments.append("# model and tokenizer are complete: the rest would come from init_from")
    return "\n".join(comments) + "\n" + dump_tree(without_defaults(config)).rstrip("\n")


def schema() -> str:
    """Return the JSON Schema of configurations."""
    return json.dumps(json_schema(), ensure_ascii=False, indent=2)

"""The verb `prepare`."""

import typer

from mtrain.cli.options import ConfigArgument, SetOption
from mtrain.config import load_config


def prepare(config: ConfigArgument, overrides: SetOption = None) -> None:
    """Turn parallel text into a tokenizer and a token store."""
    loaded = load_config(config, overrides or ())
    from mtrain.commands.prepare import prepare

    typer.echo(prepare(loaded))

"""The verb `prepare`."""

import typer

from mtrain.cli.options import ConfigArgument, SetOption


def prepare(config: ConfigArgument, overrides: SetOption = None) -> None:
    """Turn parallel text into a tokenizer and a token store."""
    from mtrain.config import load_config

    loaded = load_config(config, overrides or ())
    from mtrain.commands.prepare import prepare

    typer.echo(prepare(loaded))

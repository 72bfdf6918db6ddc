"""The verb `merge`."""

import typer

from mtrain.cli.options import ConfigArgument, SetOption


def merge(config: ConfigArgument, overrides: SetOption = None) -> None:
    """Join the shards that `mtrain prepare --shard` has made."""
    from mtrain.config import load_config

    loaded = load_config(config, overrides or ())
    from mtrain.commands.merge_data import merge_data

    typer.echo(merge_data(loaded))

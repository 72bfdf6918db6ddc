"""The verb `prepare`."""

from typing import Annotated

import typer

from mtrain.cli.options import ConfigArgument, SetOption

ShardOption = Annotated[
    str | None,
    typer.Option(
        metavar="K/N", help="Do the K-th of N parts of the work; join all with mtrain merge."
    ),
]


def prepare(config: ConfigArgument, overrides: SetOption = None, shard: ShardOption = None) -> None:
    """Turn parallel text into a tokenizer and a token store."""
    from mtrain.config import load_config

    loaded = load_config(config, overrides or ())
    if shard is None:
        from mtrain.commands.prepare import prepare

        typer.echo(prepare(loaded))
        return
    from mtrain.commands.prepare_shard import prepare_shard
    from mtrain.distributed.shards import Shard

    typer.echo(prepare_shard(loaded, Shard.parse(shard)))

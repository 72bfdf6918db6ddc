"""The verb `prepare`."""

import typer

from mtrain.cli.options import (
    NUM_SHARDS,
    ConfigArgument,
    RayOption,
    SetOption,
    ShardOption,
    ShardsOption,
    WorkersOption,
    read_shard,
)


def prepare(
    config: ConfigArgument,
    overrides: SetOption = None,
    shard: ShardOption = None,
    ray: RayOption = None,
    shards: ShardsOption = None,
    workers: WorkersOption = None,
) -> None:
    """Turn parallel text into a tokenizer and a token store."""
    from mtrain.config import load_config

    loaded = load_config(config, overrides or ())
    if (part := read_shard(shard, ray, shards, workers)) is not None:
        from mtrain.commands.prepare_shard import prepare_shard

        typer.echo(prepare_shard(loaded, part))
    elif ray is not None:
        from mtrain.commands.prepare_cluster import prepare_on_cluster

        typer.echo(prepare_on_cluster(loaded, ray, shards or NUM_SHARDS, workers))
    else:
        from mtrain.commands.prepare import prepare

        typer.echo(prepare(loaded))

"""The verb `merge`."""

from pathlib import Path
from typing import Annotated

import typer

from mtrain.cli.options import SetOption


def merge(
    what: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG.yaml|OUT",
            help="The configuration of prepare, or the --output of translate.",
            show_default=False,
        ),
    ],
    overrides: SetOption = None,
) -> None:
    """Join the shards of `prepare --shard` or of `translate --shard`."""
    if what.suffix in (".yaml", ".yml"):
        from mtrain.config import load_config

        config = load_config(what, overrides or ())
        from mtrain.commands.merge_data import merge_data

        typer.echo(merge_data(config))
    elif overrides:
        raise typer.BadParameter("--set is for a configuration; a translation has its settings")
    else:
        from mtrain.commands.merge_translation import merge_translation

        merge_translation(what)

"""The verb `merge`."""

from pathlib import Path
from typing import Annotated

import typer


def merge(
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="What --output named to the shards.", show_default=False
        ),
    ],
) -> None:
    """Join the shards of `translate --shard` into one output."""
    from mtrain.commands.merge import merge_translation

    merge_translation(output)

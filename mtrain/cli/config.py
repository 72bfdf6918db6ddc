"""The verb `config`."""

from pathlib import Path
from typing import Annotated

import typer

from mtrain.cli.options import SetOption


def config(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="Print the keys of this configuration that differ from the defaults.",
        ),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print a JSON Schema for editors.")
    ] = False,
    reference: Annotated[
        bool, typer.Option("--reference", help="Print every key with its meaning, as Markdown.")
    ] = False,
    overrides: SetOption = None,
) -> None:
    """Print a configuration without its defaults, every key, or a JSON Schema."""
    from mtrain.commands import config as command

    command.check_request(file, schema, reference, overrides or ())
    if file is not None:
        typer.echo(command.shorten(file, overrides or ()))
    else:
        typer.echo(command.schema() if schema else command.reference())

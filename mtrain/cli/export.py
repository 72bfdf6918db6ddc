"""The verb `export`."""

from pathlib import Path
from typing import Annotated

import typer

from mtrain.cli.options import CheckpointOption, RunArgument, SetOption


def export(
    run: RunArgument,
    output: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A new folder.", show_default=False)
    ],
    to: Annotated[
        str, typer.Option(metavar="FORMAT", help="huggingface or ctranslate2.", show_default=False)
    ],
    checkpoint: CheckpointOption = None,
    overrides: SetOption = None,
) -> None:
    """Write a model for another program, and check that it translates alike there."""
    from mtrain.commands.opening import open_run

    exact = {"device": "cpu", "decoding.precision": "fp32", "decoding.engine": "torch",
             "decoding.method": "beam"}  # fmt: skip
    opened = open_run(run, overrides, exact)
    from mtrain.commands.export import export_run

    export_run(opened, to, output, checkpoint)

"""The verb `export`."""

from pathlib import Path
from typing import Annotated

import typer

from mtrain.cli.options import CheckpointOption, RunArgument, SetOption
from mtrain.commands.options import one_of


def export(
    run: RunArgument,
    output: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A new folder.", show_default=False)
    ],
    to: Annotated[
        str, typer.Option(metavar="FORMAT", help="huggingface or ctranslate2.", show_default=False)
    ],
    int8: Annotated[bool, typer.Option("--int8", help="8-bit weights (ctranslate2).")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="16-bit weights (ctranslate2).")] = False,
    checkpoint: CheckpointOption = None,
    overrides: SetOption = None,
) -> None:
    """Write a model for another program, and check that it translates alike there."""
    from mtrain.commands.opening import EXACT, open_run

    weights = one_of({"int8": int8, "fp16": fp16}, "fp32")
    opened = open_run(run, overrides, EXACT)
    from mtrain.commands.export import export_run

    export_run(opened, to, weights, output, checkpoint)

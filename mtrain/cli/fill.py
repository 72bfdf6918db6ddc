"""The verb `fill`."""

from typing import Annotated

import typer

from mtrain.cli.options import (
    CheckpointOption,
    InputArgument,
    OutputOption,
    RunArgument,
    SetOption,
)


def fill(
    run: RunArgument,
    input: InputArgument = None,
    output: OutputOption = None,
    top: Annotated[int, typer.Option(metavar="N", min=1, help="Words for each mask.")] = 5,
    checkpoint: CheckpointOption = None,
    overrides: SetOption = None,
) -> None:
    """Write the likeliest words for each [MASK] of a text, by a BERT."""
    from mtrain.commands.opening import open_run

    opened = open_run(run, overrides)
    from mtrain.commands.fill import fill

    fill(opened, input, output, top, checkpoint)

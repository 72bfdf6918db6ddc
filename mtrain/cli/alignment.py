"""The verbs `align` and `attention`: a model's attention as word alignments and as pictures."""

from pathlib import Path
from typing import Annotated

import typer

from mtrain.cli.options import (
    CheckpointOption,
    InputArgument,
    OutputOption,
    RunArgument,
    SetOption,
    file_option,
)
from mtrain.remote import as_path


def align(
    run: RunArgument,
    sources: Annotated[
        Path,
        typer.Argument(metavar="SOURCES", parser=as_path, help="Source texts.", show_default=False),
    ],
    targets: Annotated[
        Path,
        typer.Argument(
            metavar="TARGETS", parser=as_path, help="Their translations.", show_default=False
        ),
    ],
    output: OutputOption = None,
    reverse: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Join with the links of this reverse run.")
    ] = None,
    symmetrise: Annotated[
        str, typer.Option(metavar="METHOD", help="How the two are joined.")
    ] = "grow-diag-final-and",
    checkpoint: CheckpointOption = None,
    overrides: SetOption = None,
) -> None:
    """Link the words of given translations, as 0-0 1-2, by the model's attention."""
    from mtrain.commands.opening import open_translator, reversed_languages

    opened = open_translator(run, overrides)
    backward = open_translator(reverse, reversed_languages(overrides)) if reverse else None
    from mtrain.commands.align import align

    align(opened, sources, targets, output, backward, symmetrise, checkpoint)


def attention(
    run: RunArgument,
    input: InputArgument = None,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for page, arrays and pictures.")
    ] = Path("attention"),
    references: Annotated[Path | None, file_option("Show these translations, not its own.")] = None,
    layer: Annotated[
        int | None, typer.Option(metavar="N", help="Of the large picture; from 1.")
    ] = None,
    head: Annotated[
        int | None,
        typer.Option(metavar="N", help="Of the large picture; by default as for alignments."),
    ] = None,
    merge_subwords: Annotated[
        bool, typer.Option("--merge-subwords", help="Show words, not pieces.")
    ] = False,
    pictures: Annotated[bool, typer.Option(help="Draw PNG files too (extra: plot).")] = True,
    checkpoint: CheckpointOption = None,
    overrides: SetOption = None,
) -> None:
    """Show what the model attends to, sentence by sentence."""
    from mtrain.commands.opening import open_run

    options = {"decoding.alignment_layer": layer, "decoding.alignment_head": head}
    opened = open_run(run, overrides, options)
    from mtrain.commands.attention import show_attention

    show_attention(opened, input, references, output, merge_subwords, pictures, checkpoint)

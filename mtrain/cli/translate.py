"""The verb `translate`."""

from pathlib import Path
from typing import Annotated

import typer

from mtrain.cli.options import (
    CheckpointOption,
    FailOnOption,
    InputArgument,
    OutputOption,
    RunArgument,
    SetOption,
    SourceLangOption,
    TargetLangOption,
    WithOption,
    file_option,
)


def translate(
    run: RunArgument,
    input: InputArgument = None,
    output: OutputOption = None,
    source_lang: SourceLangOption = None,
    target_lang: TargetLangOption = None,
    beam_size: Annotated[int | None, typer.Option(metavar="N", help="1 is greedy.")] = None,
    n_best: Annotated[
        int | None, typer.Option(metavar="N", help="Write N scored hypotheses a line.")
    ] = None,
    alignments: Annotated[
        Path | None, file_option("Write links between words there, 0-0 1-2.")
    ] = None,
    report: Annotated[Path | None, file_option("Write what is wrong with each line, JSON.")] = None,
    fail_on: FailOnOption = None,
    documents: Annotated[
        bool, typer.Option("--documents", help="Translate with context; empty lines end documents.")
    ] = False,
    document_ids: Annotated[
        Path | None, file_option("The same, with an id for each line there.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="NAME", help="torch, ctranslate2 or ctranslate2-int8.")
    ] = None,
    others: WithOption = None,
    checkpoint: CheckpointOption = None,
    overrides: SetOption = None,
) -> None:
    """Translate text, line by line, in order."""
    from mtrain.commands.opening import open_translator, with_others

    options = {"decoding.beam_size": beam_size, "decoding.n_best": n_best,
               "decoding.engine": engine, "decoding.source_lang": source_lang,
               "decoding.target_lang": target_lang}  # fmt: skip
    opened = with_others(open_translator(run, overrides, options), others)
    from mtrain.commands.translate import Documents, translate

    given = Documents(document_ids) if documents or document_ids else None
    translate(opened, input, output, alignments, checkpoint, given, report, fail_on or ())

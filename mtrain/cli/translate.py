"""The verb `translate`."""

from pathlib import Path
from typing import Annotated

import typer

from mtrain.cli.options import (
    NUM_SHARDS,
    CheckpointOption,
    FailOnOption,
    InputArgument,
    OutputOption,
    RayOption,
    RunArgument,
    SetOption,
    ShardOption,
    ShardsOption,
    SourceLangOption,
    TargetLangOption,
    WithOption,
    WorkersOption,
    file_option,
    read_shard,
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
    shard: ShardOption = None,
    ray: RayOption = None,
    shards: ShardsOption = None,
    workers: WorkersOption = None,
    others: WithOption = None,
    checkpoint: CheckpointOption = None,
    overrides: SetOption = None,
) -> None:
    """Translate text, line by line, in order."""
    from mtrain.commands.opening import open_translator, with_others

    options = {"decoding.beam_size": beam_size, "decoding.n_best": n_best,
               "decoding.engine": engine, "decoding.source_lang": source_lang,
               "decoding.target_lang": target_lang}  # fmt: skip
    part = read_shard(shard, ray, shards, workers)
    opened = with_others(open_translator(run, overrides, options), others)
    from mtrain.commands.translate import Request, translate
    from mtrain.commands.translate_units import Documents

    given = Documents(document_ids) if documents or document_ids else None
    request = Request(
        opened, input, output, alignments, report, fail_on or (), given, checkpoint, part
    )
    if ray is None:
        translate(request)
    else:
        from mtrain.commands.translate_cluster import translate_on_cluster

        translate_on_cluster(request, ray, shards or NUM_SHARDS, workers)

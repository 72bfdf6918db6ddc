"""The verb `init`."""

from typing import Annotated

import typer

from mtrain.cli.options import GivenSourceLangOption, GivenTargetLangOption


def init(
    corpus: Annotated[
        list[str],
        typer.Argument(
            metavar="CORPUS",
            help="Two text files; or one .tsv, .jsonl, .parquet or folder of a Hub data set.",
            show_default=False,
        ),
    ],
    minutes: Annotated[
        float, typer.Option(metavar="NUMBER", help="How long the training may take.")
    ] = 60,
    name: Annotated[
        str, typer.Option(metavar="NAME", help="Writes NAME.yaml, for a run in runs/NAME.")
    ] = "my-model",
    source_lang: GivenSourceLangOption = None,
    target_lang: GivenTargetLangOption = None,
) -> None:
    """Write a configuration for a corpus, with a reason for each choice."""
    from mtrain.commands.init import init

    typer.echo(init(corpus, name, minutes, (source_lang, target_lang)))

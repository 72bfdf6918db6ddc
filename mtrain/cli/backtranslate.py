"""The verb `backtranslate`."""

from typing import Annotated

import typer

from mtrain.cli.options import CheckpointOption, ConfigArgument, RunArgument, SetOption


def backtranslate(
    run: RunArgument,
    config: ConfigArgument,
    corpus: Annotated[
        str | None, typer.Option(metavar="NAME", help="Translate this corpus only.")
    ] = None,
    checkpoint: CheckpointOption = None,
    overrides: SetOption = None,
) -> None:
    """Translate the monolingual corpora of CONFIG with RUN; --set changes RUN's configuration."""
    from mtrain.commands.opening import open_translator
    from mtrain.config import load_config

    loaded = load_config(config)
    opened = open_translator(run, overrides)
    from mtrain.commands.backtranslate import backtranslate

    typer.echo(backtranslate(opened, loaded, corpus, checkpoint))

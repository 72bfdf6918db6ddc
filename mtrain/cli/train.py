"""The verb `train`."""

from typing import Annotated

import typer

from mtrain.cli.options import ConfigArgument, SetOption


def train(
    config: ConfigArgument,
    overrides: SetOption = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Try the largest batch, forecast time and memory, stop."),
    ] = False,
) -> None:
    """Train on prepared data; run it again to resume."""
    from mtrain.config import load_config

    loaded = load_config(config, overrides or ())
    from mtrain.commands import train as command
    from mtrain.commands.report import report_trained  # now: mtrain may be upgraded meanwhile

    said = (command.check if check else command.train)(loaded, config)
    if said is not None:
        typer.echo(said)
        if not check:
            report_trained(loaded)

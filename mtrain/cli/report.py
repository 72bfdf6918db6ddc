"""The verbs `report` and `compare`: a page about a run, and two runs side by side."""

from pathlib import Path
from typing import Annotated

import typer

from mtrain.cli.options import RunArgument, SetOption, file_option


def report(
    run: RunArgument,
    output: Annotated[
        Path | None,
        file_option("By default RUN/report.html; - is stdout."),
    ] = None,
    test: Annotated[
        bool, typer.Option("--test", help="Translate and score the test sets too.")
    ] = False,
    overrides: SetOption = None,
) -> None:
    """Write a page about a run: curves, scores, samples, attention, data."""
    from mtrain.commands.opening import open_run

    opened = open_run(run, overrides)
    from mtrain.commands import report as command

    command.report(opened, output, test, overrides)


def compare(
    run_a: Annotated[
        Path, typer.Argument(metavar="RUN_A", help="The baseline.", show_default=False)
    ],
    run_b: Annotated[
        Path, typer.Argument(metavar="RUN_B", help="Compared with it.", show_default=False)
    ],
    test: Annotated[
        bool, typer.Option("--test", help="Compare on the test sets, not on valid.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    overrides: SetOption = None,
) -> None:
    """Compare two runs: configuration, data, curves, significance, sentences that got worse."""
    from mtrain.commands.opening import open_comparable

    opened = open_comparable(run_a, run_b, overrides)
    from mtrain.commands.compare import compare_runs
    from mtrain.commands.compare_text import as_json, as_text

    compared = compare_runs(*opened, test, overrides)
    typer.echo((as_json if json else as_text)(compared))

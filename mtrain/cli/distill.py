"""The verb `distill`."""

from pathlib import Path
from typing import Annotated

import typer

from mtrain.cli.options import ConfigArgument, SetOption, WithOption, check_finite


def distill(
    teacher: Annotated[
        Path, typer.Argument(metavar="RUN", help="The teacher's run_dir.", show_default=False)
    ],
    config: ConfigArgument,
    others: WithOption = None,
    fail_if_gap: Annotated[
        float | None,
        typer.Option(
            metavar="SCORE",
            help="Exit 1 if the student is this far below its teacher, in BLEU or % accuracy.",
            callback=check_finite,
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    overrides: SetOption = None,
) -> None:
    """Train a small student on a teacher's translations, and compare both."""
    from mtrain.commands.opening import open_run, with_others
    from mtrain.config import load_config
    from mtrain.config.load import dump_value

    named = dump_value([str(run).replace("$", "$$") for run in (teacher, *(others or ()))])
    loaded = load_config(config, (*(overrides or ()), f"distillation.teachers={named}"))
    alike = {
        "device": loaded.device,
        "decoding.precision": loaded.decoding.precision,
        "decoding.engine": "torch" if others else None,  # CTranslate2 has one model
    }
    opened = with_others(open_run(teacher, None, alike), others)
    from mtrain.commands.distill import check_gap, distill

    report = distill(opened, loaded, config)
    typer.echo(report.as_json() if json else report.as_text())
    check_gap(report, fail_if_gap)

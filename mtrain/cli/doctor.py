"""The verb `doctor`."""

from typing import Annotated

import typer


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what is installed and found, and the command that mends each fault.

    Exits with 1 if something that mtrain needs does not work.
    """
    from mtrain.commands import doctor as command

    rows = command.examine()
    typer.echo(command.as_json(rows) if json else command.as_text(rows))
    command.check(rows)

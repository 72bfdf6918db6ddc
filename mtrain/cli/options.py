"""The arguments and options that several verbs share."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mtrain.remote import as_path


def file_option(text: str) -> Any:
    """Return an option whose value is a file, or its URL."""
    return typer.Option(metavar="FILE", parser=as_path, help=text)


ConfigArgument = Annotated[
    Path, typer.Argument(metavar="CONFIG.yaml", help="The configuration.", show_default=False)
]
RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run_dir, or a copy of it.", show_default=False)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the configuration."),
]
InputArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="INPUT",
        parser=as_path,
        help="Text file or URL; - or nothing is stdin.",
        callback=lambda path: None if path == Path("-") else path,
    ),
]
OutputOption = Annotated[
    Path | None, file_option("Appears when complete, also at a URL; - or nothing is stdout.")
]
SourceLangOption = Annotated[
    str | None,
    typer.Option(metavar="CODE", help="Translate from this language, if the model has several."),
]
TargetLangOption = Annotated[
    str | None,
    typer.Option(metavar="CODE", help="Translate into this language, if the model has several."),
]
GivenSourceLangOption = Annotated[
    str | None, typer.Option(metavar="CODE", help="Source language.", show_default=False)
]
GivenTargetLangOption = Annotated[
    str | None, typer.Option(metavar="CODE", help="Target language.", show_default=False)
]
WithOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--with", metavar="RUN", help="Average with this run's probabilities; again for each more."
    ),
]
CheckpointOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Use this checkpoint of the run; the best by default."),
]
FailOnOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=N",
        help="Exit 1 if more lines have a problem: repeated=1%, empty=0, any=5; repeatable.",
    ),
]

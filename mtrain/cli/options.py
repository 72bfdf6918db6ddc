"""The arguments and options that several verbs share."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtrain.errors import UserError
from mtrain.remote import as_path

if TYPE_CHECKING:
    from mtrain.distributed.shards import Shard

NUM_SHARDS = 64  # of --ray


def file_option(text: str) -> Any:
    """Return an option whose value is a file, or its URL."""
    return typer.Option(metavar="FILE", parser=as_path, help=text)


def check_finite(param: typer.CallbackParam, value: float | None) -> float | None:
    """Return the value of an option; raise UserError if it is not finite."""
    if value is not None and not math.isfinite(value):
        raise UserError(f"{param.opts[0]}: {value} is not a score", "give a number, such as 1.5")
    return value


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
        "--with",
        metavar="RUN",
        help="Average with this run's probabilities, or RUN/checkpoints/NAME; again for each more.",
    ),
]
CheckpointOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Use this checkpoint of the run; the best by default."),
]
ShardOption = Annotated[
    str | None,
    typer.Option(metavar="K/N", help="Do the K-th of N shares; `mtrain merge` joins them."),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Do all shards on the Ray cluster there; local is this machine alone.",
    ),
]
ShardsOption = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help=f"With --ray, number of shards; default {NUM_SHARDS}."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="With --ray, workers at a time; by default one a core or GPU."
    ),
]
FailOnOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=N",
        help="Exit 1 if more lines have a problem: repeated=1%, empty=0, any=5; repeatable.",
    ),
]


def read_shard(
    shard: str | None, ray: str | None, shards: int | None, workers: int | None
) -> "Shard | None":
    """Read `--shard`. Raises UserError for what is not a shard, or does not fit `--ray`."""
    if ray is None and (shards or workers):
        raise UserError("--shards and --workers are for --ray",
                        "give it an address, or do one share: --shard 1/64")  # fmt: skip
    if shard is None:
        return None
    from mtrain.distributed.shards import Shard

    if ray is not None:
        raise UserError("--shard is one share, and --ray does all", "leave one of them out")
    return Shard.parse(shard)

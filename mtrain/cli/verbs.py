"""The Typer app: the verbs in groups, each with an example, and their common behaviour."""

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mtrain import __version__
from mtrain.cli.alignment import align, attention
from mtrain.cli.backtranslate import backtranslate
from mtrain.cli.config import config
from mtrain.cli.distill import distill
from mtrain.cli.doctor import doctor
from mtrain.cli.export import export
from mtrain.cli.fill import fill
from mtrain.cli.import_model import import_model
from mtrain.cli.init import init
from mtrain.cli.merge import merge
from mtrain.cli.prepare import prepare
from mtrain.cli.report import compare, report
from mtrain.cli.score import score
from mtrain.cli.train import train
from mtrain.cli.translate import translate
from mtrain.commands.options import check_given_once
from mtrain.console import say
from mtrain.runtime.environment import num_processes, process_rank

# group -> verb -> example, in the order of `mtrain --help`
VERBS: dict[str, dict[Callable[..., None], str]] = {
    "Train a model": {
        init: "mtrain init train.en train.de --minutes 60",
        prepare: "mtrain prepare my.yaml",
        train: "mtrain train my.yaml --set training.max_minutes=60",
        backtranslate: "mtrain backtranslate runs/de-en my.yaml",
        distill: "mtrain distill runs/teacher student.yaml --fail-if-gap 1",
        config: "mtrain config my.yaml",
    },
    "Use a model": {
        translate: "mtrain translate runs/my-model new.en --output new.de",
        merge: "mtrain merge new.de",
        fill: "mtrain fill runs/my-bert new.en --top 3",
        score: "mtrain score runs/my-model --fail-under 30",
        import_model: "mtrain import Helsinki-NLP/opus-mt-en-de runs/opus",
        export: "mtrain export runs/my-model --to huggingface my-model",
    },
    "Look into a model": {
        report: "mtrain report runs/my-model",
        compare: "mtrain compare runs/baseline runs/my-model",
        align: "mtrain align runs/my-model new.en new.de --output new.align",
        attention: "mtrain attention runs/my-model new.en --output shown",
    },
    "Check the installation": {
        doctor: "mtrain doctor",
    },
}


def name_of(verb: Callable[..., None]) -> str:
    """Return the name of a verb; `import` is a word of Python."""
    return verb.__name__.removesuffix("_model")


class ReaderGone(Exception):
    """The reader of stdout has closed the pipe."""


class _Group(TyperGroup):
    """Lists the verbs by group; rejects repeated options that take one value."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        if not ctx.resilient_parsing:  # true while a shell completes a line
            check_given_once(command, ctx, rest)
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:  # Typer would exit with 1, a failed gate
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise ReaderGone from None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for group, verbs in VERBS.items():
            commands = [self.commands[name_of(verb)] for verb in verbs]
            with formatter.section(group):
                formatter.write_dl(
                    [(command.name, command.get_short_help_str(90)) for command in commands]
                )


app = typer.Typer(
    cls=_Group,
    help="Train translation models, translate with them, score them.",
    epilog="An example stands below the options of each verb: mtrain translate --help",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"mtrain {__version__}")
        raise typer.Exit


@app.callback()
def _start(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    if num_processes() > 1 and context.invoked_subcommand != "train":
        if process_rank() > 0:
            raise typer.Exit
        say(f"{context.invoked_subcommand} works in one process; the others do nothing")


for _verbs in VERBS.values():
    for _verb, _example in _verbs.items():
        app.command(name_of(_verb), epilog=f"Example: {_example}")(_verb)

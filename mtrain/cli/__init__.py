"""The command line: parse, call a command, turn errors into exit codes. Nothing else.

A command is imported when it is called, so that help and errors in the configuration never
wait for torch.
"""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from mtrain import __version__
from mtrain.commands.options import check_finite, check_given_once
from mtrain.config import load_config
from mtrain.errors import (
    EXIT_USER_ERROR,
    Interrupted,
    UserError,
    describe_system_error,
    is_out_of_memory,
)

if TYPE_CHECKING:
    from mtrain.data.folders import OpenedRun


class _ReaderGone(Exception):
    """Whoever read our output has closed it."""


class _Verbs(TyperGroup):
    """The verbs, none of them with an option given twice that takes one value."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, command, rest = super().resolve_command(ctx, args)
        check_given_once(command, ctx, rest)
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:  # Typer would end with 1, which is how we say no
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise _ReaderGone from None


app = typer.Typer(
    cls=_Verbs,
    help="Train translation models, translate with them, score them.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigArgument = Annotated[
    Path, typer.Argument(metavar="CONFIG.yaml", help="The configuration.", show_default=False)
]
RunArgument = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run_dir, or a copy of it.", show_default=False)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Put a value over the configuration's."),
]
InputArgument = Annotated[
    Path | None, typer.Argument(metavar="INPUT", help="Text file; stdin by default.")
]
OutputOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Appears when complete; stdout by default.")
]
CheckpointOption = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Use this checkpoint of the run; the best by default."),
]


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"mtrain {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


@app.command()
def prepare(config: ConfigArgument, overrides: SetOption = None) -> None:
    """Turn parallel text into a tokenizer and a token store."""
    loaded = load_config(config, overrides or ())
    from mtrain.commands.prepare import prepare

    typer.echo(prepare(loaded))


@app.command()
def train(
    config: ConfigArgument,
    overrides: SetOption = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Try the largest batch, forecast time and memory, stop."),
    ] = False,
) -> None:
    """Train on prepared data; run again, it goes on where it stopped."""
    loaded = load_config(config, overrides or ())
    from mtrain.commands import train as command

    typer.echo(command.check(loaded) if check else command.train(loaded))


@app.command()
def translate(
    run: RunArgument,
    input: InputArgument = None,
    output: OutputOption = None,
    beam_size: Annotated[int | None, typer.Option(metavar="N", help="1 is greedy.")] = None,
    n_best: Annotated[
        int | None, typer.Option(metavar="N", help="Write N scored hypotheses a line.")
    ] = None,
    alignments: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write links between words there, 0-0 1-2.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="NAME", help="torch, ctranslate2 or ctranslate2-int8.")
    ] = None,
    checkpoint: CheckpointOption = None,
    overrides: SetOption = None,
) -> None:
    """Translate text, line by line, in order."""
    options = {"decoding.beam_size": beam_size, "decoding.n_best": n_best,
               "decoding.engine": engine}  # fmt: skip
    opened = _open_run(run, overrides, options)
    from mtrain.commands.translate import translate

    translate(opened, input, output, alignments, checkpoint)


@app.command()
def align(
    run: RunArgument,
    sources: Annotated[Path, typer.Argument(metavar="SOURCES", show_default=False)],
    targets: Annotated[
        Path, typer.Argument(metavar="TARGETS", help="Their translations.", show_default=False)
    ],
    output: OutputOption = None,
    reverse: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Join with the links of this reverse run.")
    ] = None,
    symmetrise: Annotated[
        str, typer.Option(metavar="METHOD", help="How the two are joined.")
    ] = "grow-diag-final-and",
    checkpoint: CheckpointOption = None,
    overrides: SetOption = None,
) -> None:
    """Link the words of given translations, as 0-0 1-2, by what the model attends to."""
    opened = _open_run(run, overrides)
    backward = _open_run(reverse, overrides) if reverse else None
    from mtrain.commands.align import align

    align(opened, sources, targets, output, backward, symmetrise, checkpoint)


@app.command()
def attention(
    run: RunArgument,
    input: InputArgument = None,
    output: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for page, arrays and pictures.")
    ] = Path("attention"),
    references: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Show these translations, not its own.")
    ] = None,
    layer: Annotated[
        int | None, typer.Option(metavar="N", help="Of the large picture; from 1.")
    ] = None,
    head: Annotated[
        int | None,
        typer.Option(metavar="N", help="Of the large picture; by default as for alignments."),
    ] = None,
    merge_subwords: Annotated[
        bool, typer.Option("--merge-subwords", help="Show words, not pieces.")
    ] = False,
    pictures: Annotated[bool, typer.Option(help="Draw PNG files too (extra: plot).")] = True,
    checkpoint: CheckpointOption = None,
    overrides: SetOption = None,
) -> None:
    """Show what the model attends to, sentence by sentence."""
    options = {"decoding.alignment_layer": layer, "decoding.alignment_head": head}
    opened = _open_run(run, overrides, options)
    from mtrain.commands.attention import show_attention

    show_attention(opened, input, references, output, merge_subwords, pictures, checkpoint)


def _open_run(
    path: Path,
    overrides: Sequence[str] | None,
    options: Mapping[str, int | str | None] | None = None,
) -> "OpenedRun":
    """Open a run and its configuration; refuse what is wrong before the wait for torch."""
    from mtrain.data.folders import RunFolder

    given = [f"{key}={value}" for key, value in (options or {}).items() if value is not None]
    run = RunFolder.open(path)
    return run, run.config((*(overrides or ()), *given))


@app.command()
def score(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Score the test sets of this run.")
    ] = None,
    hypotheses: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Score this file.")
    ] = None,
    references: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Against this; again for each more.")
    ] = None,
    sources: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also by the length of these sources.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Compare with these hypotheses.")
    ] = None,
    target_lang: Annotated[
        str, typer.Option(metavar="CODE", help="Of files; chooses sacreBLEU's tokenizer.")
    ] = "en",
    alignments: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Score these word alignments, i-j from 0.")
    ] = None,
    gold_alignments: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Against these, i-j sure and ipj possible.")
    ] = None,
    gold_first_index: Annotated[
        int, typer.Option(min=0, max=1, help="What the gold alignments count words from.")
    ] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    fail_under: Annotated[
        float | None,
        typer.Option(metavar="BLEU", help="Exit 1 if a BLEU is lower.", callback=check_finite),
    ] = None,
    checkpoint: CheckpointOption = None,
    overrides: SetOption = None,
) -> None:
    """Score a run's test sets, or a file, with BLEU, chrF and TER; or word alignments."""
    if alignments or gold_alignments:
        others = {"a run": run, "--hypotheses": hypotheses, "--baseline": baseline,
                  "--fail-under": fail_under, "--checkpoint": checkpoint,
                  "--set": overrides or None,
                  "several --references": (references or [])[1:] or None}  # fmt: skip
        refused = [name for name, value in others.items() if value is not None]
        files = (alignments, gold_alignments, sources, references)
        typer.echo(_score_alignments(*files, gold_first_index, json, refused))
        return
    from mtrain.commands import score as command

    command.check_request(run, hypotheses, references, sources or baseline, checkpoint or overrides)
    if run is not None:
        scored = command.score_run(run, tuple(overrides or ()), checkpoint)
    else:
        assert hypotheses is not None
        scored = command.score_files(hypotheses, references or [], sources, baseline, target_lang)
    typer.echo(command.as_json(scored) if json else command.as_text(scored))
    if fail_under is not None:
        command.check_gate(scored, fail_under)


def _score_alignments(
    alignments: Path | None,
    golds: Path | None,
    sources: Path | None,
    references: Sequence[Path] | None,
    gold_first_index: int,
    is_json: bool,
    refused: list[str],
) -> str:
    if refused:
        raise UserError(
            f"{', '.join(refused)} cannot be combined with --alignments and --gold-alignments",
            "score translations in a command of their own",
        )
    if alignments is None or golds is None or (sources is None) == bool(references):
        raise UserError(
            "--alignments and --gold-alignments go together; so do --sources and --references here",
            "mtrain score --alignments OUT.align --gold-alignments GOLD.align",
        )
    from mtrain.commands import score_alignments as command

    texts = (sources, references[0]) if sources and references else None
    scored = command.score_alignments(alignments, golds, gold_first_index, texts)
    return (command.as_json if is_json else command.as_text)(str(alignments), scored)


def main() -> None:
    """Run the command line and exit with its code."""
    # before torch comes: threads that spin for long while they wait, as by default, make training
    # 2 to 8 times slower on a machine with anything else to do; on an idle one this costs 5 %
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    if sys.stderr is None:  # closed: else its number would be that of the next file opened
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(prog_name="mtrain")
    except UserError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except Interrupted as interrupted:
        typer.echo(interrupted.message, err=True)
        sys.exit(interrupted.exit_code)
    except _ReaderGone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_USER_ERROR)
    except OSError as error:
        message = describe_system_error(error)
        if message is None:
            raise
        _complain(message)
        sys.exit(EXIT_USER_ERROR)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _complain("out of memory\na smaller model, batch_tokens or beam_size needs less")
        sys.exit(EXIT_USER_ERROR)


def _interrupt(number: int, _: FrameType | None) -> None:
    """End a command as Ctrl-C does, its files cleaned up; training waits for signals itself."""
    raise Interrupted(number, "stopped by a signal")


def _complain(text: str) -> None:
    typer.echo(f"error: {text}", err=True)

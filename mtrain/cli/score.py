"""The verb `score`."""

from pathlib import Path
from typing import Annotated

import typer

from mtrain.cli.options import CheckpointOption, SetOption, WithOption
from mtrain.commands.options import check_finite

FailUnderOption = Annotated[
    float | None,
    typer.Option(
        metavar="SCORE",
        help="Exit 1 if a BLEU is lower, or a BERT's accuracy in percent.",
        callback=check_finite,
    ),
]


def score(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="Score its test sets; a BERT by masked tokens."),
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
    fail_under: FailUnderOption = None,
    others: WithOption = None,
    checkpoint: CheckpointOption = None,
    overrides: SetOption = None,
) -> None:
    """Score a run's test sets, or a file, with BLEU, chrF and TER; or word alignments."""
    if alignments or gold_alignments:
        from mtrain.commands import score_alignments

        unused = {"a run": run, "--hypotheses": hypotheses, "--baseline": baseline,
                  "--fail-under": fail_under, "--with": others, "--checkpoint": checkpoint,
                  "--set": overrides}  # fmt: skip
        typer.echo(
            score_alignments.answer(
                alignments, gold_alignments, gold_first_index, sources, references, unused, json
            )
        )
        return
    from mtrain.commands import score as command

    of_run = others or checkpoint or overrides
    command.check_request(run, hypotheses, references, sources or baseline, of_run)
    if run is not None:
        scored = command.score_run(run, overrides, others, checkpoint)
    else:
        assert hypotheses is not None
        scored = command.score_files(hypotheses, references or [], sources, baseline, target_lang)
    typer.echo(command.as_json(scored) if json else command.as_text(scored))
    if fail_under is not None:
        command.check_gate(scored, fail_under)

"""The verb `score`."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mtrain.cli.options import (
    CheckpointOption,
    FailOnOption,
    SetOption,
    WithOption,
    check_finite,
    file_option,
)
from mtrain.commands.options import one_of

RunArgument = Annotated[
    Path | None,
    typer.Argument(metavar="RUN", help="Score its test sets; a BERT by masked tokens."),
]
HypothesesOption = Annotated[Path | None, file_option("Score this file.")]
ReferencesOption = Annotated[list[Path] | None, file_option("Reference translations; repeatable.")]
SourcesOption = Annotated[Path | None, file_option("Source texts, to score by source length too.")]
BaselineOption = Annotated[Path | None, file_option("Compare with these hypotheses.")]
LanguageOption = Annotated[
    str | None,
    typer.Option(
        metavar="CODE", help="Of --references; chooses sacreBLEU's tokenizer. Default en."
    ),
]
AlignmentsOption = Annotated[Path | None, file_option("Score these word alignments, i-j from 0.")]
GoldOption = Annotated[Path | None, file_option("Against these, i-j sure and ipj possible.")]
FirstIndexOption = Annotated[
    int, typer.Option(min=0, max=1, help="What the gold alignments count words from.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
MetricsOption = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="bleu, chrf, chrf++, ter or bleu-tok-lc, the main one first. Default bleu,chrf,ter.",
    ),
]
TestSetOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME:PAIR", help="Score sacreBLEU's, such as wmt14:en-de, from disk."),
]
FailUnderOption = Annotated[
    float | None,
    typer.Option(
        metavar="SCORE",
        help="Exit 1 if a main score is lower: BLEU, or a BERT's accuracy in percent.",
        callback=check_finite,
    ),
]
SaveBaselineOption = Annotated[
    Path | None,
    file_option("Save the translations for --against, if no gate fails."),
]
AgainstOption = Annotated[
    Path | None,
    file_option("Exit 1 if a main score fell significantly from this baseline's."),
]
MaxDropOption = Annotated[
    float | None, typer.Option(metavar="SCORE", help="A drop that --against allows; default 0.")
]
PValueOption = Annotated[
    float | None,
    typer.Option("--p", metavar="P", help="Largest p of a significant drop; default 0.05."),
]
SuiteOption = Annotated[
    Path | None,
    file_option("Also run this behaviour suite; exit 1 if a case fails."),
]
JunitOption = Annotated[Path | None, file_option("Also write a JUnit report (XML).")]
MarkdownOption = Annotated[Path | None, file_option("Also write a comment for a pull request.")]


def score(
    run: RunArgument = None,
    hypotheses: HypothesesOption = None,
    references: ReferencesOption = None,
    sources: SourcesOption = None,
    baseline: BaselineOption = None,
    target_lang: LanguageOption = None,
    alignments: AlignmentsOption = None,
    gold_alignments: GoldOption = None,
    gold_first_index: FirstIndexOption = 0,
    json: JsonOption = False,
    metrics: MetricsOption = None,
    test_set: TestSetOption = None,
    fail_under: FailUnderOption = None,
    save_baseline: SaveBaselineOption = None,
    against: AgainstOption = None,
    max_drop: MaxDropOption = None,
    p: PValueOption = None,
    fail_on: FailOnOption = None,
    suite: SuiteOption = None,
    junit: JunitOption = None,
    markdown: MarkdownOption = None,
    others: WithOption = None,
    checkpoint: CheckpointOption = None,
    overrides: SetOption = None,
) -> None:
    """Score a run's test sets, or a file, with BLEU, chrF and TER; or word alignments."""
    from mtrain.commands import score as command
    from mtrain.commands import score_alignments
    from mtrain.commands.score_gate import OutputFiles, judge, open_gate, open_limits
    from mtrain.commands.score_text import as_json, as_text
    from mtrain.evaluation.measures import Measures, parse_metrics

    if alignments or gold_alignments:
        unused = {"a run": run, "--hypotheses": hypotheses, "--baseline": baseline,
                  "--fail-under": fail_under, "--save-baseline": save_baseline,
                  "--against": against, "--max-drop": max_drop, "--p": p, "--fail-on": fail_on,
                  "--suite": suite, "--junit": junit, "--metrics": metrics, "--set": overrides,
                  "--test-set": test_set, "--markdown": markdown, "--with": others,
                  "--checkpoint": checkpoint, "--target-lang": target_lang}  # fmt: skip
        files = (alignments, gold_alignments, gold_first_index, sources, references)
        return typer.echo(score_alignments.answer(*files, unused, json))
    measures = Measures(parse_metrics(metrics), test_set or ())
    of_files = {"--sources": sources, "--baseline": baseline, "--target-lang": target_lang}
    command.check_request(run, hypotheses, references, of_files,
                          others or checkpoint or overrides, suite, measures)  # fmt: skip
    one_of({"baseline": baseline is not None, "against": against is not None}, "")
    outputs = OutputFiles(save_baseline, junit, markdown)
    limits = open_limits(fail_on or [], run, sources or test_set, suite)
    gate = open_gate(fail_under, against, max_drop, p, limits, outputs, measures)
    if run is not None:
        scorer = partial(command.score_run, run, overrides, others, checkpoint, gate,
                         save_baseline is not None, suite, measures)  # fmt: skip
    else:
        assert hypotheses is not None
        scorer = partial(command.score_files, hypotheses, references or [], sources,
                         baseline or gate.baseline, target_lang or "en", measures)  # fmt: skip
    show = as_json if json else as_text
    judge(scorer, lambda scored: typer.echo(show(scored)), gate, outputs, str(run or "files"))

"""`mtrain score`: scores of a run or a file of translations."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtrain.commands.opening import open_run, with_others
from mtrain.commands.score_gate import Gate
from mtrain.commands.score_suite import run_suite
from mtrain.commands.score_tests import own_tests, sacrebleu_tests, score_tests, warn_of_ter
from mtrain.config.suite import Suite, load_suite
from mtrain.data.held_out_text import HeldOutText
from mtrain.errors import UserError
from mtrain.evaluation.baseline import Baseline
from mtrain.evaluation.health import Facts
from mtrain.evaluation.measures import Measures
from mtrain.evaluation.scored import Scored, ScoredSet, SetTexts, score_set
from mtrain.evaluation.test_sets import read_test_set
from mtrain.inference.directions import require_direction
from mtrain.text.lines import count_invalid, decode_lines, read_lines, warn_of_invalid
from mtrain.text.streams import read_stdin_once

if TYPE_CHECKING:
    from mtrain.inference.load import LoadedRun


def check_request(
    run: Path | None,
    hypotheses: Path | None,
    references: Sequence[Path] | None,
    of_files: Mapping[str, object],
    of_run: object,
    suite: Path | None,
    measures: Measures,
) -> None:
    """Raise UserError unless either a run or files are given, with matching options.

    `of_files` are options that apply to --references only, `of_run` stands for those of a run.
    """
    test_sets = measures.test_sets
    given = [name for name, value in of_files.items() if value is not None]
    if hypotheses is not None and test_sets:
        if references or "--sources" in given or "--target-lang" in given:
            raise UserError(
                "--test-set has the sources and references of --hypotheses, and their language",
                "leave out --references, --sources and --target-lang",
            )
        if len(test_sets) > 1:
            raise UserError(
                f"--hypotheses are of one test set, and {len(test_sets)} are named",
                "score each in a command of its own",
            )
    has_references = bool(references or test_sets)
    if (run is None) == (hypotheses is None) or (
        not has_references if run is None else bool(references)
    ):
        raise UserError(
            "score takes either a run, or --hypotheses and --references",
            "mtrain score RUN, or: mtrain score --hypotheses OUT.txt --references REF.txt, "
            "or: mtrain score --alignments OUT.align --gold-alignments GOLD.align",
        )
    if run is not None and given:
        raise UserError(
            f"{', '.join(given)}: for --hypotheses and --references, not for a run",
            "write the translations to a file first: mtrain translate RUN INPUT --output FILE",
        )
    if run is None and of_run:
        raise UserError(
            "--with, --checkpoint and --set belong to a run; --hypotheses are scored as they are",
            "leave them out, or: mtrain score RUN",
        )
    if run is None and suite:
        raise UserError(
            "--suite belongs to a run, which translates its cases",
            "mtrain score RUN --suite FILE",
        )


def score_run(
    run_dir: Path,
    overrides: Sequence[str] | None,
    others: Sequence[Path] | None,
    checkpoint_name: str | None,
    gate: Gate,
    is_saved: bool,
    suite_path: Path | None,
    measures: Measures,
) -> Scored:
    """Score a run by test sets, by default its own and its best checkpoint, and run a suite.

    A run that translates translates them, together with the others; one that fills masked tokens
    predicts some of theirs. Raises UserError, before a model is loaded, if a baseline or a suite
    does not fit, or if masked tokens are to be scored with what is for translations.
    """
    suite = load_suite(suite_path) if suite_path else None
    opened = with_others(open_run(run_dir, overrides), others)
    run, config = opened[0]
    own, baseline = run.test_sets(config), gate.baseline
    if config.learns_from_text:
        _check_masked(run_dir, gate, is_saved, suite, measures)
        tests = []
    elif measures.test_sets:
        tests = sacrebleu_tests(measures, config)
    else:
        tests = own_tests(own, config, measures.metrics)
    if not (tests or own) and (suite is None or is_saved or gate.judges_sets):
        raise UserError(
            f"{run_dir}: this run has no test set",
            "name one under data.test and run `mtrain prepare` and `mtrain train` again, "
            "or score files: mtrain score --hypotheses OUT.txt --references REF.txt",
        )
    if suite:
        languages = require_direction(config, suite.languages, f"{suite.path}: this suite")
    before = baseline.hypotheses([test.texts for test in tests]) if baseline else {}
    from mtrain.inference.ensemble import load_ensemble  # loads torch, which files do not need

    loaded = load_ensemble(opened, checkpoint_name)
    if config.learns_from_text:
        return Scored(_score_masked(loaded, own))
    of_documents = loaded.document_translator if config.data.context is not None else None
    scored = score_tests(loaded.translator, tests, of_documents, before)
    return Scored(scored, run_suite(suite, loaded.translator(languages)) if suite else None)


def _check_masked(
    run_dir: Path, gate: Gate, is_saved: bool, suite: Suite | None, measures: Measures
) -> None:
    """Raise UserError for options that apply to translations."""
    if gate.baseline is not None or is_saved:
        raise UserError(
            f"{run_dir}: this run fills masked tokens; a baseline holds translations",
            "use --fail-under, with an accuracy in percent",
        )
    if gate.limits or suite or not measures.are_default:
        raise UserError(
            f"{run_dir}: this run fills masked tokens; --fail-on, --suite, --metrics and "
            "--test-set judge translations",
            "use --fail-under, with an accuracy in percent",
        )


def _score_masked(loaded: "LoadedRun", tests: Sequence[HeldOutText]) -> list[ScoredSet]:
    from mtrain.commands.score_masked import score_masked  # loads torch

    scored = []
    for test in tests:
        languages = dict.fromkeys(loaded.config.data.test_languages[test.name])
        num_texts, scores = score_masked(loaded, test)
        scored.append(ScoredSet(test.name, "-".join(languages), num_texts, scores, [], [], []))
    return scored


def score_files(
    hypotheses: Path,
    references: Sequence[Path],
    sources: Path | None,
    compared: Path | Baseline | None,
    target_lang: str,
    measures: Measures,
) -> Scored:
    """Score a file of translations, and compare it with a file of others or a saved baseline.

    Each file of `references`, or the test set of `measures`, has one translation per line of
    `hypotheses`.
    """
    if compared is not None:
        measures.require_comparable()
    others = compared if isinstance(compared, Path) else None
    read_stdin_once(hypotheses, *references, sources, others)
    raw = {path: list(read_lines(path))
           for path in (hypotheses, *references, sources, others) if path}  # fmt: skip
    lines = {path: _decode(texts, path) for path, texts in raw.items()}
    if measures.test_sets:
        of_set = read_test_set(measures.test_sets[0])
        target_lang, source_lines, wanted = of_set.languages[1], of_set.sources, of_set.references
    else:
        source_lines = lines[sources] if sources else None
        wanted = [lines[path] for path in references]
    check_in_step(
        {path: len(texts) for path, texts in lines.items()},
        references[0] if references else measures.test_sets[0],
        len(wanted[0]),
    )
    judged = [raw[path] for path in (hypotheses, sources) if path]
    facts = [Facts(is_valid_text=not count_invalid(row)) for row in zip(*judged, strict=True)]
    texts = SetTexts(
        str(hypotheses), ("", target_lang), source_lines, wanted, lines[hypotheses], facts,
        measures.metrics,
    )  # fmt: skip
    warn_of_ter(texts)
    if isinstance(compared, Baseline):
        return Scored([score_set(texts, compared.hypotheses([texts])[texts.name])])
    return Scored([score_set(texts, lines[others] if others else None)])


def check_in_step(num_lines: Mapping[Path, int], references: object, wanted: int) -> None:
    """Raise UserError if line counts differ from the `wanted` of the references, or if it is 0."""
    for path, count in num_lines.items():
        if count != wanted:
            raise UserError(
                f"{path} has {count} lines but {references} has {wanted}",
                "line n of one must belong to line n of the other",
            )
    if not wanted:
        raise UserError(f"{references}: there is not one line to score")


def _decode(lines: Sequence[bytes], where: object) -> list[str]:
    warn_of_invalid(where, count_invalid(lines))
    return decode_lines(lines)

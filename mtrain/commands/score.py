"""`mtrain score`: scores of a run or a file of translations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from mtrain.commands.health import facts_of
from mtrain.commands.opening import open_run, with_others
from mtrain.commands.score_gate import Gate
from mtrain.commands.score_suite import direction_of_suite, run_suite
from mtrain.config import Config
from mtrain.config.corpora import Languages
from mtrain.config.suite import Suite
from mtrain.console import progress, say, warn
from mtrain.data.folders import HeldOutText
from mtrain.errors import UserError
from mtrain.evaluation.baseline import Baseline
from mtrain.evaluation.health import Facts
from mtrain.evaluation.scored import Scored, ScoredSet, SetTexts, score_set
from mtrain.text.languages import find_language
from mtrain.text.lines import count_invalid, decode_line, read_lines, warn_of_invalid
from mtrain.text.streams import read_stdin_once

if TYPE_CHECKING:
    from mtrain.decoding.documents import DocumentTranslator
    from mtrain.decoding.translator import Translator
    from mtrain.inference.load import LoadedRun


def check_request(
    run: Path | None,
    hypotheses: Path | None,
    references: Sequence[Path] | None,
    beside: Path | None,
    of_run: object,
    suite: Path | None,
) -> None:
    """Raise UserError unless either a run or files are given, with matching options.

    `beside` stands for options that apply to files only, `of_run` for those of a run only.
    """
    if (run is None) == (hypotheses is None) or (hypotheses is None) == bool(references):
        raise UserError(
            "score takes either a run, or --hypotheses and --references",
            "mtrain score RUN, or: mtrain score --hypotheses OUT.txt --references REF.txt, "
            "or: mtrain score --alignments OUT.align --gold-alignments GOLD.align",
        )
    if run is not None and beside:
        raise UserError(
            "--sources and --baseline belong to --hypotheses and --references",
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
    suite: Suite | None = None,
) -> Scored:
    """Score the run's test sets, by default with its best checkpoint, and run a suite.

    A run that translates translates them, together with the others; one that fills masked tokens
    predicts some of theirs. Raises UserError, before a model is loaded, if a baseline or a suite
    does not fit, or if masked tokens are to be scored with what is for translations.
    """
    opened = with_others(open_run(run_dir, overrides), others)
    run, config = opened[0]
    tests, baseline = run.test_sets(config), gate.baseline
    if config.learns_from_text:
        _check_masked(run_dir, gate, is_saved, suite)
    if not tests and (suite is None or is_saved or gate.judges_sets):
        raise UserError(
            f"{run_dir}: this run has no test set",
            "name one under data.test and run `mtrain prepare` and `mtrain train` again, "
            "or score files: mtrain score --hypotheses OUT.txt --references REF.txt",
        )
    languages = direction_of_suite(suite, config) if suite else None
    before = baseline.hypotheses([_texts(test, config) for test in tests]) if baseline else {}
    from mtrain.inference.ensemble import load_ensemble  # loads torch, which files do not need

    loaded = load_ensemble(opened, checkpoint_name)
    if config.learns_from_text:
        return Scored(_score_masked(loaded, tests))
    of_documents = loaded.document_translator if config.data.context is not None else None
    scored = score_tests(loaded.translator, tests, config, of_documents, before)
    return Scored(scored, run_suite(suite, loaded.translator(languages)) if suite else None)


def _check_masked(run_dir: Path, gate: Gate, is_saved: bool, suite: Suite | None) -> None:
    """Raise UserError for options that apply to translations."""
    if gate.baseline is not None or is_saved:
        raise UserError(
            f"{run_dir}: this run fills masked tokens; a baseline holds translations",
            "use --fail-under, with an accuracy in percent",
        )
    if gate.limits or suite:
        raise UserError(
            f"{run_dir}: this run fills masked tokens; --fail-on and --suite judge translations",
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


def score_tests(
    translator_for: "Callable[[Languages], Translator]",
    tests: Sequence[HeldOutText],
    config: Config,
    document_translator_for: "Callable[[Languages], DocumentTranslator] | None" = None,
    before: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[ScoredSet]:
    """Translate test sets and score each; `translator_for` returns one for two languages.

    Sets that have documents are translated with their context, given a translator for it. `before`
    are a baseline's hypotheses by the set's name.
    """
    scored = []
    for test in tests:
        languages = config.data.test_languages[test.name]
        _warn_of_ter(languages[1])
        with progress(f"translating {test.name}", len(test.sources), "lines") as shown:
            if document_translator_for is None or test.documents is None:
                translations = translator_for(languages).translate(test.sources, shown.advance)
            else:
                translations = document_translator_for(languages).translate(
                    test.sources, test.documents, shown.advance
                )
                num_alone = sum(each.is_from_mismatch for each in translations)
                say(f"{test.name}: documents translated chunk by chunk, {num_alone} lines alone "
                    "because the separators of their chunk did not match")  # fmt: skip
        for lines in (test.sources, test.references):
            warn_of_invalid(test.name, count_invalid(lines))
        texts = replace(
            _texts(test, config),
            hypotheses=[translation.text for translation in translations],
            facts=list(map(facts_of, translations)),
        )
        scored.append(score_set(texts, before.get(test.name)))
    return scored


def score_files(
    hypotheses: Path,
    references: Sequence[Path],
    sources: Path | None,
    compared: Path | Baseline | None,
    target_lang: str,
) -> Scored:
    """Score a file of translations, and compare it with a file of others or a saved baseline.

    Each file of `references` has one translation per line of `hypotheses`.
    """
    others = compared if isinstance(compared, Path) else None
    read_stdin_once(hypotheses, *references, sources, others)
    raw = {path: list(read_lines(path))
           for path in (hypotheses, *references, sources, others) if path}  # fmt: skip
    lines = {path: _decode(texts, path) for path, texts in raw.items()}
    check_in_step({path: len(texts) for path, texts in lines.items()}, references[0])
    _warn_of_ter(target_lang)
    judged = [raw[path] for path in (hypotheses, sources) if path]
    facts = [Facts(is_valid_text=not count_invalid(row)) for row in zip(*judged, strict=True)]
    texts = SetTexts(
        str(hypotheses),
        ("", target_lang),
        lines[sources] if sources else None,
        [lines[path] for path in references],
        lines[hypotheses],
        facts,
    )
    if isinstance(compared, Baseline):
        return Scored([score_set(texts, compared.hypotheses([texts])[texts.name])])
    return Scored([score_set(texts, lines[others] if others else None)])


def check_in_step(num_lines: Mapping[Path, int], references: Path) -> None:
    """Raise UserError if line counts differ from the references, or if these are empty."""
    wanted = num_lines[references]
    for path, count in num_lines.items():
        if count != wanted:
            raise UserError(
                f"{path} has {count} lines but {references} has {wanted}",
                "line n of one must belong to line n of the other",
            )
    if not wanted:
        raise UserError(f"{references}: there is not one line to score")


def _warn_of_ter(target_lang: str) -> None:
    language = find_language(target_lang)
    if not (language.is_spaced or language.is_han):
        warn(
            f"{target_lang}: TER splits Chinese characters only; it counts what stands between "
            "spaces or punctuation as one word, so trust BLEU and chrF"
        )


def _texts(test: HeldOutText, config: Config) -> SetTexts:
    sources, references = ([decode_line(line)[0] for line in lines]
                           for lines in (test.sources, test.references))  # fmt: skip
    return SetTexts(test.name, config.data.test_languages[test.name], sources, [references])


def _decode(lines: Sequence[bytes], where: object) -> list[str]:
    warn_of_invalid(where, count_invalid(lines))
    return [decode_line(line)[0] for line in lines]

"""`mtrain score`: scores of a run or a file of translations, and a pass/fail gate for CI."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtrain.commands.opening import open_run, with_others
from mtrain.config import Config
from mtrain.config.corpora import Languages
from mtrain.console import progress, say, warn
from mtrain.data.folders import HeldOutText
from mtrain.errors import EXIT_GATE_FAILED, UserError
from mtrain.evaluation.buckets import Bucket, score_by_length
from mtrain.evaluation.metrics import PairedScore, References, Score, compare, score
from mtrain.text.languages import find_language
from mtrain.text.lines import count_invalid, decode_line, read_lines, warn_of_invalid
from mtrain.text.streams import read_stdin_once

if TYPE_CHECKING:
    from mtrain.decoding.documents import DocumentTranslator
    from mtrain.decoding.translator import Translator
    from mtrain.inference.load import LoadedRun


@dataclass(frozen=True)
class ScoredSet:
    """All scores of one set of sentences."""

    name: str
    direction: str  # as en-de; empty for files
    sentences: int
    scores: list[Score]
    by_length: list[Bucket]
    comparison: list[PairedScore]

    @property
    def main(self) -> Score:
        """The score that --fail-under checks: BLEU, or masked accuracy."""
        return self.scores[0]


def check_request(
    run: Path | None,
    hypotheses: Path | None,
    references: Sequence[Path] | None,
    beside: Path | None,
    of_run: object,
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


def score_run(
    run_dir: Path,
    overrides: Sequence[str] | None,
    others: Sequence[Path] | None,
    checkpoint_name: str | None,
) -> list[ScoredSet]:
    """Score the run's test sets, by default with its best checkpoint.

    A run that translates translates them, together with the others; one that fills masked tokens
    predicts some of theirs.
    """
    opened = with_others(open_run(run_dir, overrides), others)
    run, config = opened[0]
    tests = run.test_sets(config)
    if not tests:
        raise UserError(
            f"{run_dir}: this run has no test set",
            "name one under data.test and run `mtrain prepare` and `mtrain train` again, "
            "or score files: mtrain score --hypotheses OUT.txt --references REF.txt",
        )
    from mtrain.inference.ensemble import load_ensemble  # loads torch, which files do not need

    loaded = load_ensemble(opened, checkpoint_name)
    if config.learns_from_text:
        return _score_masked(loaded, tests)
    of_documents = loaded.document_translator if config.data.context is not None else None
    return score_tests(loaded.translator, tests, config, of_documents)


def _score_masked(loaded: "LoadedRun", tests: Sequence[HeldOutText]) -> list[ScoredSet]:
    from mtrain.commands.score_masked import score_masked  # loads torch

    scored = []
    for test in tests:
        languages = dict.fromkeys(loaded.config.data.test_languages[test.name])
        num_texts, scores = score_masked(loaded, test)
        scored.append(ScoredSet(test.name, "-".join(languages), num_texts, scores, [], []))
    return scored


def score_tests(
    translator_for: "Callable[[Languages], Translator]",
    tests: Sequence[HeldOutText],
    config: Config,
    document_translator_for: "Callable[[Languages], DocumentTranslator] | None" = None,
) -> list[ScoredSet]:
    """Translate test sets and score each; `translator_for` returns one for two languages.

    Sets that have documents are translated with their context, given a translator for it.
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
        hypotheses = [translation.texts[0] for translation in translations]
        sources, references = _text(test.sources, test.name), [_text(test.references, test.name)]
        scored.append(_score(test.name, languages, hypotheses, references, sources, None))
    return scored


def score_files(
    hypotheses: Path,
    references: Sequence[Path],
    sources: Path | None,
    baseline: Path | None,
    target_lang: str,
) -> list[ScoredSet]:
    """Score a file of translations, and compare it with a baseline's if given.

    Each file of `references` has one translation per line of `hypotheses`.
    """
    read_stdin_once(hypotheses, *references, sources, baseline)
    texts = {path: _text(list(read_lines(path)), path)
             for path in (hypotheses, *references, sources, baseline) if path}  # fmt: skip
    check_in_step({path: len(lines) for path, lines in texts.items()}, references[0])
    _warn_of_ter(target_lang)
    wanted = [texts[path] for path in references]
    source_texts = texts[sources] if sources else None
    baseline_texts = texts[baseline] if baseline else None
    return [
        _score(
            str(hypotheses),
            ("", target_lang),
            texts[hypotheses],
            wanted,
            source_texts,
            baseline_texts,
        )
    ]


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


def as_json(scored: Sequence[ScoredSet]) -> str:
    """Return everything as one JSON object."""
    answer: dict[str, Any] = {"sets": [asdict(entry) for entry in scored]}
    if means := _means(scored):
        answer["mean"] = means
    return json.dumps(answer, indent=1, ensure_ascii=False)


def _means(scored: Sequence[ScoredSet]) -> dict[str, float]:
    """Return the mean of each metric over the sets, if they have several directions."""
    if len({entry.direction for entry in scored}) < 2:
        return {}
    columns = zip(*(entry.scores for entry in scored), strict=True)
    return {column[0].name: sum(score.value for score in column) / len(column)
            for column in columns}  # fmt: skip


def as_text(scored: Sequence[ScoredSet]) -> str:
    """Return everything as tables."""
    lines, means = [], _means(scored)
    for entry in scored:
        direction = f", {entry.direction}" if means else ""
        lines.append(f"{entry.name}{direction}, {entry.sentences:,} sentences")
        width = max(6, *(len(figure.name) + 1 for figure in entry.scores))
        for figure in entry.scores:
            lines.append(f"  {figure.name:<{width}}{figure.value:>7.2f}   {figure.signature}")
        if entry.by_length:
            lines.append("  source words  sentences    BLEU    chrF  length ratio")
        for bucket in entry.by_length:
            bounds = f"{bucket.shortest}-{bucket.longest}" if bucket.longest else (
                f"over {bucket.shortest - 1}")  # fmt: skip
            lines.append(f"  {bounds:>12}{bucket.sentences:>11}{bucket.bleu:>8.2f}"
                         f"{bucket.chrf:>8.2f}{bucket.length_ratio:>14.3f}")  # fmt: skip
        for paired in entry.comparison:
            lines.append(f"  {paired.name:<6}{paired.value:>7.2f} against {paired.baseline:.2f} "
                         f"(p = {paired.p_value:.4f})   {paired.signature}")  # fmt: skip
    if means:
        told = ", ".join(f"{name} {value:.2f}" for name, value in means.items())
        lines.append(f"mean of {len(scored)} sets: {told}")
    return "\n".join(lines)


def check_gate(scored: Sequence[ScoredSet], fail_under: float) -> None:
    """Raise UserError, with EXIT_GATE_FAILED, if a set's main score is under `fail_under`."""
    failed = [f"{entry.name}: {entry.main.name} {entry.main.value:.2f} is under {fail_under:g}"
              for entry in scored if entry.main.value < fail_under]  # fmt: skip
    if failed:
        raise UserError("\n".join(failed), exit_code=EXIT_GATE_FAILED)


def _score(
    name: str,
    languages: Languages,
    hypotheses: Sequence[str],
    references: References,
    sources: Sequence[str] | None,
    baseline: Sequence[str] | None,
) -> ScoredSet:
    source_lang, target_lang = languages
    return ScoredSet(
        name,
        f"{source_lang}-{target_lang}" if source_lang else "",
        len(hypotheses),
        score(hypotheses, references, target_lang),
        score_by_length(sources, hypotheses, references, target_lang) if sources else [],
        compare(hypotheses, baseline, references, target_lang) if baseline else [],
    )


def _warn_of_ter(target_lang: str) -> None:
    language = find_language(target_lang)
    if not (language.is_spaced or language.is_han):
        warn(
            f"{target_lang}: TER splits Chinese characters only; it counts what stands between "
            "spaces or punctuation as one word, so trust BLEU and chrF"
        )


def _text(lines: Sequence[bytes], where: object) -> list[str]:
    warn_of_invalid(where, count_invalid(lines))
    return [decode_line(line)[0] for line in lines]

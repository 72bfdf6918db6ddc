"""`mtrain score`: the gate for a CI, and the files that are written beside the printed scores."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mtrain.commands.score_reports import junit, markdown
from mtrain.errors import EXIT_GATE_FAILED, UserError
from mtrain.evaluation.baseline import Baseline, read_baseline, write_baseline
from mtrain.evaluation.health import NEED_SEARCH, NEED_SOURCE
from mtrain.evaluation.limits import (
    HEALTH_NAMES,
    Limit,
    check_known,
    exceeded_limits,
    parse_limits,
)
from mtrain.evaluation.measures import Measures
from mtrain.evaluation.metrics import LEAST_P_VALUE
from mtrain.evaluation.scored import Scored, ScoredSet
from mtrain.evaluation.suite import SUITE, SuiteResult
from mtrain.remote import outgoing
from mtrain.text.lines import write_whole
from mtrain.text.streams import is_stdout

DEFAULT_P = 0.05


@dataclass(frozen=True)
class Gate:
    """What a set must hold to pass: a lower bound, a baseline's score, and limits of problems."""

    fail_under: float | None
    baseline: Baseline | None
    max_drop: float
    p: float
    limits: Sequence[Limit] = ()

    @property
    def judges_sets(self) -> bool:
        """Whether it judges more than a suite."""
        of_sets = [limit for limit in self.limits if limit.name != SUITE]
        return self.fail_under is not None or self.baseline is not None or bool(of_sets)

    def failures_of_suite(self, suite: SuiteResult | None) -> list[str]:
        """Return why a suite fails; nothing if it passes, or if there is none."""
        limits = [limit for limit in self.limits if limit.name == SUITE]
        return suite.failures(limits) if suite else []

    def failures(self, scored: ScoredSet) -> list[str]:
        """Return why a set fails; nothing if it passes.

        Against a baseline it fails if the score is lower by more than `max_drop` and the p-value
        of the paired test is at most `p`.
        """
        messages, main = [], scored.main
        if self.fail_under is not None and main.value < self.fail_under:
            messages.append(
                f"{scored.name}: {main.name} {main.value:.2f} is under {self.fail_under:g}"
            )
        if self.baseline is not None:
            paired = scored.comparison[0]
            drop = paired.baseline - paired.value
            if drop > self.max_drop and paired.p_value <= self.p:
                messages.append(
                    f"{scored.name}: {paired.name} {paired.value:.2f} is {drop:.2f} lower than "
                    f"{paired.baseline:.2f} of {self.baseline.path}, more than --max-drop "
                    f"{self.max_drop:g}, with p = {paired.p_value:.4f}"
                )
        if scored.health is not None:
            limits = [limit for limit in self.limits if limit.name != SUITE]
            messages += [f"{scored.name}: {message}"
                         for message in exceeded_limits(limits, scored.health)]  # fmt: skip
        return messages


@dataclass(frozen=True)
class OutputFiles:
    """Where to write what, if anywhere."""

    save_baseline: Path | None
    junit: Path | None
    markdown: Path | None


def open_gate(
    fail_under: float | None,
    against: Path | None,
    max_drop: float | None,
    p: float | None,
    limits: Sequence[Limit],
    files: OutputFiles,
    measures: Measures,
) -> Gate:
    """Return the gate that the options describe, its baseline read.

    Raises UserError for options that do not fit together, numbers out of range, an unreadable
    baseline, and files with the same path; only a baseline may be read and then replaced.
    """
    if fail_under is not None or against is not None:
        measures.require_comparable()
    if against is None and (max_drop is not None or p is not None):
        raise UserError(
            "--max-drop and --p belong to --against",
            "mtrain score RUN --against BASELINE.json --max-drop 0.3",
        )
    if max_drop is not None and not 0 <= max_drop < math.inf:
        raise UserError(
            f"--max-drop: {max_drop} is not a finite number from 0 up",
            "give a drop of the score, such as 0.3 BLEU",
        )
    if p is not None and not LEAST_P_VALUE <= p <= 1:
        raise UserError(
            f"--p: {p} is not between {LEAST_P_VALUE:.4f}, the least p-value of the test, and 1",
            f"the default is {DEFAULT_P}; with 1 every drop counts as significant",
        )
    _check_paths(against, files)
    baseline = read_baseline(against) if against is not None else None
    return Gate(fail_under, baseline, max_drop or 0.0, DEFAULT_P if p is None else p, limits)


def open_limits(
    fail_on: Sequence[str], run: Path | None, sources: object, suite: Path | None
) -> list[Limit]:
    """Return the limits of `--fail-on`.

    Raises UserError for those that cannot be read, or judged with what is scored.
    """
    limits = parse_limits(fail_on, (*HEALTH_NAMES, SUITE))
    unknown = {} if suite else {SUITE: "it limits the failed cases of --suite FILE"}
    if run is None:
        unknown |= dict.fromkeys(NEED_SEARCH, "only a search knows it: score a run")
        if sources is None:
            unknown |= dict.fromkeys(NEED_SOURCE, "it needs --sources FILE")
    check_known(limits, unknown)
    return limits


def judge(
    score: Callable[[], Scored],
    show: Callable[[Scored], None],
    gate: Gate,
    files: OutputFiles,
    class_name: str,
) -> None:
    """Score, show the scores and write the reports; then check the gate, and save the baseline.

    Raises UserError with EXIT_GATE_FAILED if a set fails; then the baseline's file stays as it was.
    """
    with _opened(files.save_baseline) as baseline_file:
        with _opened(files.junit) as junit_file, _opened(files.markdown) as markdown_file:
            scored = score()
            show(scored)
            failures = [gate.failures(entry) for entry in scored.sets]
            of_suite = gate.failures_of_suite(scored.suite)
            if junit_file:
                junit_file.write(junit(scored, failures, of_suite, class_name))
            if markdown_file:
                markdown_file.write(markdown(scored, failures, of_suite))
        if messages := [message for each in (*failures, of_suite) for message in each]:
            raise UserError("\n".join(messages), exit_code=EXIT_GATE_FAILED)
        if baseline_file:
            write_baseline(baseline_file, scored.sets)


@contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO | None]:
    """Open a file that appears when complete, before the work, so that its path is checked."""
    if path is None:
        yield None
    else:
        with write_whole(path) as file:
            yield file


def _check_paths(against: Path | None, files: OutputFiles) -> None:
    named = {"--save-baseline": files.save_baseline, "--junit": files.junit,
             "--markdown": files.markdown, "--against": against}  # fmt: skip
    given = [(option, path) for option, path in named.items() if path is not None]
    options: dict[Path, list[str]] = {}
    for option, path in given:
        if is_stdout(path):
            raise UserError(f"{option}: {path} is no file", "name one: stdout carries the scores")
        options.setdefault(outgoing(path), []).append(option)
    for path, sharing in options.items():
        if len(sharing) > 1 and sharing != ["--save-baseline", "--against"]:
            raise UserError(f"{' and '.join(sharing)} name the same file {path}", "name two files")

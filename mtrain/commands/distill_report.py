"""The table that `mtrain distill` ends in: teacher and student by size, speed and quality."""

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mtrain.checkpoints.format import MODEL
from mtrain.commands.score_masked import score_masked
from mtrain.config.corpora import Languages
from mtrain.console import progress, say
from mtrain.data.folders import DataFolder, RunFolder
from mtrain.data.held_out_text import HeldOutText
from mtrain.decoding.translator import Translator
from mtrain.evaluation.metrics import compare, score
from mtrain.inference.load import LoadedRun
from mtrain.text.lines import decode_lines

BEAMS = (5, 1)
TIMED_LINES = 200
ROUNDS = 3  # of the timing, in turn; the median counts


@dataclass(frozen=True)
class Row:
    """One system on one test set."""

    test: str
    system: str
    parameters: int
    megabytes: float
    speeds: dict[str, float]  # sentences a second by search; only on the first set
    scores: dict[str, float]
    difference: float | None = None  # of the main score, to the teacher's
    p_value: float | None = None  # of that difference


@dataclass(frozen=True)
class Report:
    """All rows; the first of each set is the teacher's, if it was measured."""

    metric: str  # the main one
    signatures: dict[str, str]
    rows: list[Row]

    def gaps(self) -> dict[str, float]:
        """Return how far each student is below the teacher, by name and set."""
        return {f"{row.system} on {row.test}": -row.difference
                for row in self.rows if row.difference is not None}  # fmt: skip

    def costs_of_int8(self) -> dict[str, float]:
        """Return how much eight bits cost by set, where they were measured."""
        found = {(row.test, row.system): row.scores[self.metric] for row in self.rows}
        return {test: found[test, "student"] - score
                for (test, system), score in found.items() if system == "student int8"}  # fmt: skip

    def as_json(self) -> str:
        """Return everything as one JSON object."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)

    def as_text(self) -> str:
        """Return a table for each set, and what the student keeps of the teacher."""
        lines = []
        for test in dict.fromkeys(row.test for row in self.rows):
            rows = [row for row in self.rows if row.test == test]
            lines += [test, *_table(rows), *_shares(rows, self.metric)]
        lines += [f"{name}: {signature}" for name, signature in self.signatures.items()]
        return "\n".join(lines)


def _table(rows: Sequence[Row]) -> list[str]:
    searches, names = list(rows[0].speeds), list(rows[0].scores)
    header = ["", "parameters", "MB", *searches, *names, "difference", "p"]
    cells = [header]
    for row in rows:
        cells.append([
            row.system,
            f"{row.parameters:,}",
            f"{row.megabytes:.1f}",
            *(f"{row.speeds[search]:.1f}" for search in searches),
            *(f"{row.scores[name]:.2f}" for name in names),
            "" if row.difference is None else f"{row.difference:+.2f}",
            "" if row.p_value is None else f"{row.p_value:.3f}",
        ])  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  " + "  ".join(cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip()
            for line in cells]  # fmt: skip


def _shares(rows: Sequence[Row], metric: str) -> list[str]:
    """Return what each student keeps of the teacher's score and size, and how much faster it is."""
    teacher, told = rows[0], []
    for row in rows[1:]:
        kept = row.scores[metric] / max(teacher.scores[metric], 1e-9)
        faster = [f"{row.speeds[search] / teacher.speeds[search]:.1f} times its {search}"
                  for search in row.speeds]  # fmt: skip
        told.append(
            f"  {row.system}: {kept:.1%} of the teacher's {metric}, "
            + ", ".join([f"{row.megabytes / teacher.megabytes:.1%} of its bytes", *faster])
        )
    return told


@dataclass(frozen=True)
class _System:
    name: str
    parameters: int
    megabytes: float
    translator: Callable[[Languages, int], Translator]  # of a beam size


def compare_translators(teacher: LoadedRun, student: LoadedRun, int8: Path | None) -> Report:
    """Translate the student's test sets with each system, and measure quality and speed."""
    systems = [_system("teacher", teacher), _system("student", student)]
    if int8 is not None:
        systems.append(_int8_system(student, int8))
    rows: list[Row] = []
    signatures: dict[str, str] = {}
    for test, languages in _tests(student):
        references = decode_lines(test.references)
        outputs = {}
        for system in systems:
            with progress(f"{test.name} by {system.name}", len(test.sources), "lines") as shown:
                found = system.translator(languages, BEAMS[0]).translate(
                    test.sources, shown.advance
                )
            outputs[system.name] = [each.text for each in found]
        speeds = {} if rows else _speeds(systems, test, languages)
        for system in systems:
            scores = score(outputs[system.name], [references], languages[1])[:2]
            signatures |= {each.name: each.signature for each in scores}
            difference = p_value = None
            if system is not systems[0]:
                paired = compare(
                    outputs[system.name], outputs["teacher"], [references], languages[1]
                )[0]
                difference, p_value = paired.value - paired.baseline, paired.p_value
            rows.append(Row(
                test.name, system.name, system.parameters, system.megabytes,
                speeds.get(system.name, {}), {each.name: each.value for each in scores},
                difference, p_value,
            ))  # fmt: skip
    return Report("BLEU", signatures, rows)


def _tests(student: LoadedRun) -> list[tuple[HeldOutText, Languages]]:
    """Return the test sets of a run, or else its dev set by direction, with their languages."""
    config = student.config
    if tests := RunFolder(config.run_dir).test_sets(config):
        return [(test, config.data.test_languages[test.name]) for test in tests]
    by_direction = DataFolder(config.data_path).held_out_by_direction("valid", config)
    return [(replace(text, name=f"valid {'-'.join(languages)}") if len(by_direction) > 1 else text,
             languages) for languages, text in by_direction.items()]  # fmt: skip


def _system(name: str, loaded: LoadedRun) -> _System:
    return _System(
        name,
        loaded.num_parameters,
        _megabytes(*(run.checkpoint / MODEL for run in loaded.runs)),
        lambda languages, beam_size: loaded.with_decoding(
            engine="torch", method="beam", beam_size=beam_size, n_best=1
        ).translator(languages),
    )


def _int8_system(student: LoadedRun, folder: Path) -> _System:
    return _System(
        "student int8",
        student.num_parameters,
        _megabytes(folder / "model.bin"),
        lambda languages, beam_size: searched_in_int8(student, beam_size).translator_of_export(
            folder, languages
        ),
    )


def searched_in_int8(student: LoadedRun, beam_size: int) -> LoadedRun:
    """Return a student that searches with CTranslate2; raise UserError if an option forbids it."""
    return student.with_decoding(
        engine="ctranslate2-int8", method="beam", beam_size=beam_size, n_best=1
    )


def _megabytes(*paths: Path) -> float:
    return sum(path.stat().st_size for path in paths) / 1e6


def _speeds(
    systems: Sequence[_System], test: HeldOutText, languages: Languages
) -> dict[str, dict[str, float]]:
    """Return sentences a second of each system by search: the median of rounds in turn."""
    lines = test.sources[:TIMED_LINES]
    seconds: dict[tuple[str, str], list[float]] = {}
    with progress("timing", ROUNDS * len(BEAMS) * len(systems), "runs") as shown:
        for _ in range(ROUNDS):
            for beam_size in BEAMS:
                search = f"sentences/s at beam {beam_size}" if beam_size > 1 else "greedy"
                for system in systems:
                    translator = system.translator(languages, beam_size)
                    started = time.perf_counter()
                    translator.translate(lines)
                    taken = time.perf_counter() - started
                    seconds.setdefault((system.name, search), []).append(taken)
                    shown.advance(1)
    speeds: dict[str, dict[str, float]] = {}
    for (name, search), taken_each in seconds.items():
        speeds.setdefault(name, {})[search] = len(lines) / statistics.median(taken_each)
    return speeds


def compare_berts(teacher: LoadedRun, student: LoadedRun) -> Report:
    """Predict masked tokens of the student's test sets with both, and measure quality and speed."""
    rows: list[Row] = []
    signatures: dict[str, str] = {}
    systems = {"teacher": teacher, "student": student}
    if not teacher.has_head:
        say("the teacher has no head that predicts masked tokens: the student is measured alone")
        del systems["teacher"]
    for test in RunFolder(student.config.run_dir).test_sets(student.config):
        seconds: dict[str, list[float]] = {name: [] for name in systems}
        scores: dict[str, dict[str, float]] = {}
        num_texts = 0
        for _ in range(ROUNDS):
            for name, loaded in systems.items():
                same_masks = replace(loaded, config=student.config)
                started = time.perf_counter()
                num_texts, found = score_masked(same_masks, test)
                seconds[name].append(time.perf_counter() - started)
                scores[name] = {each.name: each.value for each in found[:2]}
                signatures |= {each.name: each.signature for each in found[:2]}
        for name, loaded in systems.items():
            gap = None
            if name == "student" and "teacher" in scores:
                gap = scores[name]["accuracy"] - scores["teacher"]["accuracy"]
            rows.append(Row(
                test.name, name, loaded.num_parameters, _megabytes(loaded.checkpoint / MODEL),
                {"texts/s": num_texts / statistics.median(seconds[name])}, scores[name], gap,
            ))  # fmt: skip
    return Report("accuracy", signatures, rows)

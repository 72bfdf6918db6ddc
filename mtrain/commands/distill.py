"""`mtrain distill`: train a student on what its teacher makes of the training data, and compare.

Several runs that translate are one teacher: their probabilities are averaged.
Every step is one that another verb does, and is left alone where it is done: the same command
resumes after a kill.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from mtrain.checkpoints.format import weights_digest
from mtrain.commands.distill_report import (
    BEAMS,
    Report,
    compare_berts,
    compare_translators,
    searched_in_int8,
)
from mtrain.commands.export import export_run
from mtrain.commands.opening import EXACT, open_run
from mtrain.commands.prepare import prepare
from mtrain.commands.report import report_trained
from mtrain.commands.train import train
from mtrain.config import Config
from mtrain.console import say, warn
from mtrain.data.folders import DataFolder, OpenedRun, RunFolder, hold
from mtrain.data.identity import check_undistilled
from mtrain.errors import EXIT_GATE_FAILED, UserError
from mtrain.inference.directions import direction_of
from mtrain.inference.distilled_text import check_sources, write_distilled
from mtrain.inference.ensemble import load_ensemble
from mtrain.inference.load import LoadedRun, load_run
from mtrain.inference.student_vocabulary import check_student_vocabulary
from mtrain.models import build_model
from mtrain.nn.initialisation import UninitialisedWeights
from mtrain.text.lines import write_whole

INT8 = "ctranslate2-int8"  # in the run folder: the export in eight bits
REPORT = "distillation.json"
LARGE_LOSS = 0.5  # BLEU that eight bits may cost without a warning


def distill(opened: Sequence[OpenedRun], config: Config, config_path: Path) -> Report:
    """Translate, prepare, train, export in eight bits, and compare the student with its teacher."""
    for each in opened:
        check_kinds(each, config)
    _check_student(config)
    teacher = load_ensemble(opened, None)
    if config.has_distilled_targets:
        _translate(teacher, config)
    say(prepare(config))
    _warn_of_size(teacher, config)
    if (told := train(config, config_path)) is not None:
        say(told)
        report_trained(config)
    student = load_run(*_opened(config.run_dir), None)
    if config.learns_from_text:
        report = compare_berts(teacher, student)
    else:
        report = compare_translators(teacher, student, _export(student))
    with write_whole(config.run_dir / REPORT) as file:
        file.write(report.as_json().encode())
    for test, cost in report.costs_of_int8().items():
        if cost > LARGE_LOSS:
            warn(
                f"{test}: eight bits cost {cost:.2f} {report.metric}, more than {LARGE_LOSS}: "
                "translate with the fp32 model, or train the student longer"
            )
    return report


def check_kinds(opened: OpenedRun, config: Config) -> None:
    """Raise UserError for a teacher of another kind than the student, or for the student itself."""
    run, of_teacher = opened
    if run.path.resolve() == config.run_dir.resolve():
        raise UserError(
            f"{run.path}: the teacher is the run_dir of the student",
            "give the student a run_dir of its own",
        )
    if of_teacher.learns_from_text != config.learns_from_text:
        told = ["translates", "fills masked tokens"]
        raise UserError(
            f"{run.path}: this teacher {told[of_teacher.learns_from_text]}, and its student "
            f"{told[config.learns_from_text]}",
            f"give the student model.type: {of_teacher.model.type}, or name another teacher",
        )
    if config.has_distilled_targets:
        check_sources(config, of_teacher)


def _check_student(config: Config) -> None:
    """Raise UserError for what would end a distillation after the teacher's long work."""
    if config.learns_from_text and not config.data.test:
        raise UserError(
            "data.test: no test set to compare teacher and student on",
            "name one under data.test, or {from_train: 1000}",
        )
    data = DataFolder(config.data_path)
    meant = data.as_prepared(config) if data.manifest_path.is_file() else config
    RunFolder(config.run_dir).check_belongs(meant)
    check_undistilled(config)
    check_student_vocabulary(config)


def _translate(teacher: LoadedRun, config: Config) -> None:
    """Write the student's text, with the fastest engine that this teacher's search can use."""
    folder = config.distilled_pairs(config.data.train[0]).source.parent
    with hold(
        folder.with_name(f".{folder.name}.lock"),
        f"{folder}: another `mtrain distill` is at work here",
    ):
        write_distilled(_with_fast_engine(teacher, config), config)


def _with_fast_engine(teacher: LoadedRun, config: Config) -> LoadedRun:
    """Return the teacher with CTranslate2 as its engine, where that can search as it does."""
    if teacher.others:
        say("searching with our own engine: CTranslate2 has no ensembles")
        return teacher
    has_choice = teacher.config.decoding.engine == "torch" and find_spec("ctranslate2") is not None
    can_write = os.access(teacher.checkpoint, os.W_OK)  # where the engine keeps its export
    if not has_choice or not can_write or _limit(teacher):
        return teacher
    try:
        fast = teacher.with_decoding(engine="ctranslate2")
        fast.translator(direction_of(teacher.config, config.data.directions[0]))
    except UserError as error:  # of an option that CTranslate2 lacks, or another result
        say(f"searching with our own engine: {error.message}")
        return teacher
    return fast


def _limit(loaded: LoadedRun) -> str | None:
    """Return what of a model CTranslate2 cannot hold, if anything."""
    limits = loaded.config.tokenizer.export_limits(False) | loaded.model.export_limits
    return limits.get("ctranslate2")


def _warn_of_size(teacher: LoadedRun, config: Config) -> None:
    """Warn of a student with more parameters than its teacher."""
    if config.features is not None:  # its size depends on their width
        return
    tokenizers = DataFolder(config.data_path).tokenizers()
    with UninitialisedWeights():
        student = build_model(config, tokenizers.source.vocab_size, tokenizers.target.vocab_size)
    size = sum(weight.numel() for weight in student.parameters())
    if size > teacher.num_parameters:
        warn(
            f"the student has {size:,} parameters, more than its teacher with "
            f"{teacher.num_parameters:,}: it need not be faster, nor better"
        )


def _export(student: LoadedRun) -> Path | None:
    """Return the folder with the student in eight bits, or None, saying why, if it cannot be."""
    if limit := _limit(student):
        say(f"no export in eight bits: CTranslate2 cannot hold {limit}")
        return None
    if find_spec("ctranslate2") is None:
        say("no export in eight bits: that needs pip install 'mtrain[ctranslate2]'")
        return None
    try:
        searched_in_int8(student, BEAMS[0])
        return _exported(student)
    except UserError as error:  # of an option that CTranslate2 lacks, or another result
        warn(f"no export in eight bits: {error.message}")
        return None


def _exported(student: LoadedRun) -> Path:
    """Export the student in eight bits, unless that is done; return the folder."""
    config = student.config
    folder = config.run_dir / INT8
    about = folder.with_suffix(".json")
    of_student = json.dumps({"weights": weights_digest(student.checkpoint)}).encode()
    if folder.is_dir() and about.is_file() and about.read_bytes() == of_student:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    source_lang, target_lang = config.data.directions[0]
    one = {"decoding.source_lang": source_lang, "decoding.target_lang": target_lang}
    export_run(_opened(config.run_dir, EXACT | one), "ctranslate2", "int8", folder, None)
    with write_whole(about) as file:
        file.write(of_student)
    return folder


def _opened(run_dir: Path, options: Mapping[str, int | str | None] | None = None) -> OpenedRun:
    return open_run(run_dir, None, options)


def check_gap(report: Report, fail_if_gap: float | None) -> None:
    """Raise UserError, with EXIT_GATE_FAILED, for a student too far below its teacher."""
    if fail_if_gap is None:
        return
    failed = [f"{name}: {gap:.2f} {report.metric} below the teacher, over {fail_if_gap:g}"
              for name, gap in report.gaps().items() if gap > fail_if_gap]  # fmt: skip
    if failed:
        raise UserError("\n".join(failed), exit_code=EXIT_GATE_FAILED)

"""The text that a student learns from: a teacher's translations of the training sources.

Sequence-level distillation (Kim and Rush 2016). For the training corpus N, `N.translations` holds
the teacher's hypotheses of each source, as a JSON list, best first. `N.source` and `N.target` hold
the pairs to learn from, and `N.json` what they were made of, written last.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from mtrain.config import Config
from mtrain.config.corpora import Corpus, Languages, MonolingualText, PairFiles
from mtrain.config.distillation import DistillationConfig
from mtrain.console import progress, say
from mtrain.data.identity import about_distilled, contents_of
from mtrain.data.plan import derive_seed
from mtrain.errors import UserError
from mtrain.evaluation.metrics import nearest
from mtrain.inference.directions import direction_of
from mtrain.inference.journalled import translate_lines
from mtrain.inference.load import LoadedRun
from mtrain.text.checks import check_readable
from mtrain.text.corpora import corpus_name, read_pairs
from mtrain.text.lines import clean_target, file_digest, read_lines, write_whole
from mtrain.text.records import RawPair

Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Task:
    """A training corpus, and the files that a teacher makes of it."""

    corpus: Corpus
    languages: Languages
    has_own: bool  # whether it has translations of its own
    files: PairFiles  # to learn from

    @property
    def translations(self) -> Path:
        """All hypotheses of the teacher."""
        return self.files.source.with_suffix(".translations")

    @property
    def about(self) -> Path:
        """What the files to learn from were made of."""
        return about_distilled(self.files)

    def read(self) -> Iterator[RawPair]:
        """Yield the pairs of the corpus."""
        return read_pairs(self.corpus, self.languages)


def check_sources(config: Config, teacher: Config) -> None:
    """Raise UserError if a training corpus cannot be read, or lies in a direction that the teacher
    does not translate in."""
    tasks = _tasks(config)
    unusable = [problem for task in tasks for problem in check_readable(task.corpus)]
    if unusable:
        raise UserError("\n".join(dict.fromkeys(unusable)))
    for task in tasks:
        if direction_of(teacher, task.languages) is None:
            known = ", ".join(" to ".join(languages) for languages in teacher.data.directions)
            raise UserError(
                f"{corpus_name(task.corpus)}: needs a teacher that translates "
                f"{' to '.join(task.languages)}; {teacher.run_dir} translates {known}",
                "name another run as the teacher",
            )
    given = config.distillation
    assert given is not None
    if given.targets == "interpolated" and teacher.decoding.hypotheses_at_once == 1:
        raise UserError(
            f"distillation.targets: interpolated chooses among hypotheses, and {teacher.run_dir} "
            "makes one a sentence",
            "set distillation.targets: best",
        )


def write_distilled(teacher: LoadedRun, config: Config) -> None:
    """Write the pairs to learn from for each training corpus; leave alone what is done."""
    given, decoding = config.distillation, teacher.config.decoding
    assert given is not None
    n_best = decoding.hypotheses_at_once if given.targets == "interpolated" else 1
    teacher = teacher.with_decoding(n_best=n_best)
    for task in _tasks(config):
        languages = direction_of(teacher.config, task.languages)
        assert languages is not None
        inputs = contents_of(task.corpus)
        translate_lines(
            teacher,
            languages,
            (source for source, _ in task.read()),
            {"inputs": inputs},
            task.translations,
            lambda found: json.dumps(found.texts, ensure_ascii=False),
        )
        about = {
            "inputs": inputs,
            "translations": file_digest(task.translations),
            "targets": given.targets,
            "original_share": given.original_share,
            "seed": config.seed,
        }
        if not _is_written(task, about):
            task.about.unlink(missing_ok=True)
            _write_pairs(task, given, config.seed)
            with write_whole(task.about) as file:
                file.write(json.dumps(about, indent=1).encode())


def _tasks(config: Config) -> list[_Task]:
    tasks = []
    for corpus in config.data.train:
        if config.is_distilled(corpus):
            has_own = not isinstance(corpus, MonolingualText)
            tasks.append(_Task(config.distilled_from(corpus), config.data.languages_of(corpus),
                               has_own, config.distilled_pairs(corpus)))  # fmt: skip
    return tasks


def _is_written(task: _Task, about: dict[str, Any]) -> bool:
    try:
        written = json.loads(task.about.read_bytes())
    except (OSError, ValueError):
        return False
    return bool(written == about) and task.files.source.is_file() and task.files.target.is_file()


def _write_pairs(task: _Task, given: DistillationConfig, seed: int) -> None:
    """Choose among the teacher's hypotheses, and mix in the corpus's own translations."""
    num_lines = sum(1 for _ in read_lines(task.translations))
    share = given.original_share if task.has_own else 0.0
    is_own, is_teachers = _mix(num_lines, share, derive_seed(seed, task.files.source.stem))
    is_interpolated = given.targets == "interpolated" and task.has_own
    with (
        write_whole(task.files.source) as sources,
        write_whole(task.files.target) as targets,
        progress(f"choosing {task.files.source.stem}", num_lines, "pairs") as shown,
    ):
        read = zip(task.read(), read_lines(task.translations), is_own, is_teachers, strict=True)
        for (source, own), line, learns_own, learns_teachers in read:
            hypotheses = json.loads(line)
            if learns_teachers:
                chosen = (
                    nearest(hypotheses, clean_target(own), task.languages[1])
                    if is_interpolated else 0
                )  # fmt: skip
                _write(sources, source)
                _write(targets, hypotheses[chosen].encode())
            if learns_own:
                _write(sources, source)
                _write(targets, own)
            shown.advance(1)
    told = f"{int(is_teachers.sum()):,} translations of the teacher"
    told += f" and {int(is_own.sum()):,} of its own" if share else ""
    say(f"{corpus_name(task.corpus)}: {told}, in {task.files.target}")


def _write(file: BinaryIO, line: bytes) -> None:
    file.write(line.replace(b"\n", b" ") + b"\n")  # a field of a table may have line ends


def _mix(num_pairs: int, share: float, seed: int) -> tuple[Marks, Marks]:
    """Return for each pair whether its own target is learnt from, and whether the teacher's is.

    Takes as many of both as possible, so that `share` of them are the pairs' own.
    """
    rank = np.random.default_rng(seed).permutation(num_pairs)
    num_own = min(num_pairs, round(num_pairs * share / (1 - share)))
    num_teachers = num_pairs if share <= 0.5 else round(num_pairs * (1 - share) / share)
    return rank < num_own, rank >= num_pairs - num_teachers

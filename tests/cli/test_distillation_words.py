"""Word-level distillation on the command line: what `prepare` keeps and `train` learns from it."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from mtrain.text.lines import file_digest
from tests.cli.conftest import contents
from tests.cli.hostile import on_a_small_disk
from tests.cli.warm import WarmCommandLine
from tests.conftest import succeed, write_task

MODEL = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 16, "num_heads": 2, "ffn_dim": 32,
         "max_positions": 40}  # fmt: skip
TEACHER: dict[str, Any] = {
    "run_dir": "teacher",
    "device": "cpu",
    "data": {
        "source_lang": "digits",
        "target_lang": "words",
        "train": [{"source": "train.digits", "target": "train.words"}],
        "valid": [{"source": "valid.digits", "target": "valid.words"}],
        "test": [{"name": "held-out", "source": "test.digits", "target": "test.words"}],
        "filters": {"max_tokens": 40},
    },
    "tokenizer": {"vocab_size": 320},
    "model": MODEL,
    "training": {"precision": "fp32", "batch_tokens": 128, "max_updates": 4, "valid_every": 4,
                 "warmup_updates": 4, "log_every": 1},
    "decoding": {"beam_size": 1},
}  # fmt: skip
STUDENT: dict[str, Any] = {
    **TEACHER,
    "run_dir": "student",
    "tokenizer": {"path": "teacher/tokenizer/shared.model"},
    "distillation": {"teachers": ["teacher"], "targets": "original", "weight": 0.5, "top_k": 4},
}
BERT_TEACHER: dict[str, Any] = {
    "run_dir": "bert",
    "device": "cpu",
    "data": {
        "train": [{"text": "train.words", "lang": "words"}],
        "valid": [{"text": "valid.words", "lang": "words"}],
        "test": [{"name": "held-out", "text": "test.words", "lang": "words"}],
        "filters": {"max_tokens": 40},
    },
    "tokenizer": {"vocab_size": 300},
    "model": {"type": "bert", "encoder_layers": 2, "d_model": 16, "num_heads": 2, "ffn_dim": 32,
              "max_positions": 40},
    "training": {"objective": "masked_lm", **TEACHER["training"]},
}  # fmt: skip
BERT_STUDENT: dict[str, Any] = {
    **BERT_TEACHER,
    "run_dir": "small-bert",
    "tokenizer": {"path": "bert/tokenizer/shared.model"},
    "model": {**BERT_TEACHER["model"], "encoder_layers": 1},
    "distillation": {"teachers": ["bert"], "weight": 0.7, "hidden_weight": 0.15, "temperature": 2},
}
CONFIGS = {"teacher": TEACHER, "student": STUDENT, "bert": BERT_TEACHER, "small-bert": BERT_STUDENT}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, server: None) -> Path:
    """A folder with the small task, its configurations and both teachers; nothing else is made."""
    folder = tmp_path_factory.mktemp("distillation")
    write_task(folder, {"train": 120, "valid": 8, "test": 8})
    for name, tree in CONFIGS.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(tree))
    with closing(WarmCommandLine(folder)) as command:
        for name in ("teacher", "bert"):
            succeed(command, "prepare", f"{name}.yaml")
            succeed(command, "train", f"{name}.yaml")
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    """A copy of the template."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def beside(template: Path) -> Iterator[WarmCommandLine]:
    """The command line in the template, for what is refused and leaves it as it is."""
    with closing(WarmCommandLine(template)) as command:
        yield command


def options(*overrides: str) -> list[str]:
    return [part for override in overrides for part in ("--set", override)]


def losses(run: Path) -> list[float]:
    events = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [event["loss"] for event in events if event["kind"] == "train"]


def test_prepare_keeps_what_the_teacher_expects_and_train_learns_from_it_alone(
    folder: Path, warm: WarmCommandLine
) -> None:
    prepared = succeed(warm, "prepare", "student.yaml")
    assert "distributions of 4 tokens" in prepared.err
    assert "by teacher/checkpoints/update-00000004 on cpu in fp32" in prepared.err
    assert "teacher  4 likeliest tokens of teacher at " in prepared.out
    train = folder / "student" / "data" / "train"
    ids = np.fromfile(train / "teacher_ids.tokens", "(4,)uint16")
    log_probs = np.fromfile(train / "teacher_log_probs.tokens", "(4,)float16")
    targets = np.fromfile(train / "target.offsets", np.int64)
    offsets = np.fromfile(train / "teacher_ids.offsets", np.int64)
    assert offsets.tolist() == (targets + np.arange(121)).tolist()  # one for each end mark
    assert len(ids) == len(log_probs) == offsets[-1]
    assert (np.diff(log_probs.astype(float)) <= 0).all()
    assert not list((folder / "student" / "data" / "valid").glob("teacher*"))

    (folder / "teacher").rename(folder / "gone")
    stopped = options("training.max_updates=2", "training.valid_every=2")
    succeed(warm, "train", "student.yaml", *stopped)
    assert "resuming" in succeed(warm, "train", "student.yaml").err
    assert "BLEU" in succeed(warm, "score", "student").out
    moved = options("tokenizer.path=gone/tokenizer/shared.model")
    assert "nothing changed" in succeed(warm, "prepare", "student.yaml", *moved).err
    refused = warm("prepare", "student.yaml", *moved, *options("distillation.top_k=5"))
    assert refused.code == 2
    assert "distillation" in refused.err
    refused = warm("prepare", "student.yaml", *moved, *options("run_dir=new"))
    assert refused.code == 2
    assert "distillation.teachers: teacher: there is no such run folder" in refused.err


def test_another_teacher_or_top_k_prepares_again(folder: Path, warm: WarmCommandLine) -> None:
    succeed(warm, "prepare", "student.yaml")
    shutil.copytree(folder / "teacher", folder / "other")
    renamed = options("distillation.teachers=[other]")
    assert "nothing changed" in succeed(warm, "prepare", "student.yaml", *renamed).err
    other = options("run_dir=other", "seed=2", "tokenizer={path: teacher/tokenizer/shared.model}")
    shutil.rmtree(folder / "other")
    succeed(warm, "prepare", "teacher.yaml", *other)
    succeed(warm, "train", "teacher.yaml", *other)
    refused = warm("train", "student.yaml", *renamed)
    assert refused.code == 2
    assert "other: not the teacher that student/data was prepared with" in refused.err
    fewer = options("distillation.top_k=2")
    refused = warm("train", "student.yaml", *fewer)
    assert refused.code == 2
    assert "distillation.top_k: 4 -> 2" in refused.err
    assert "mtrain prepare" in refused.err

    succeed(warm, "train", "student.yaml", *options("training.max_updates=1"))
    assert "prepared in" in succeed(warm, "prepare", "student.yaml", *renamed).err
    refused = warm("train", "student.yaml", *renamed)
    assert refused.code == 2
    assert "trained on other data" in refused.err
    new = options("run_dir=new", "data_dir=student/data")
    succeed(warm, "train", "student.yaml", *renamed, *new)
    assert len(losses(folder / "new")) == 4


@pytest.mark.parametrize(
    ("name", "overrides", "problem", "hint"),
    [
        ("student", ["distillation.teachers=[]"], "none is named",
         "`mtrain distill TEACHER CONFIG.yaml` names it"),
        ("student", ["distillation.teachers=[teacher, bert]"], "bert: this is a bert model", ""),
        ("student", ["distillation.teachers=[teacher, teacher]"],
         "distillation.teachers: teacher: this run is named twice", "name each run once"),
        ("student", ["distillation.teachers=[nowhere]"],
         "distillation.teachers: nowhere: there is no such run folder", ""),
        ("student", ["distillation.teachers=[bert]"], "this teacher is a bert",
         "name the run of a model that translates"),
        ("student", ["data.source_lang=words", "data.target_lang=digits"],
         "teacher: this teacher translates digits to words, and the student words to digits",
         "name the run of a model of the same direction"),
        ("student", ["tokenizer.source_prefix=▁"], "teacher: the prefixes of its source and target "
         "are none and none, and those of the student ▁ and none",
         "give the student the teacher's tokenizer.source_prefix"),
        ("student", ["distillation.top_k=321"], "the vocabulary has 320 tokens",
         "set distillation.top_k: 320"),
    ],
)  # fmt: skip
def test_a_teacher_that_does_not_fit_is_refused_by_prepare(
    name: str, overrides: list[str], problem: str, hint: str, beside: WarmCommandLine
) -> None:
    refused = beside("prepare", f"{name}.yaml", *options(*overrides))
    assert refused.code == 2
    assert problem in refused.err
    assert hint in refused.err
    assert not (beside.folder / "student" / "data").exists()


@pytest.mark.parametrize(
    ("command", "tokenizer"),
    [
        ("prepare student.yaml", "vocab_size: 310"),
        ("prepare student.yaml", "path: bert/tokenizer/shared.model"),
        ("distill teacher student.yaml", "vocab_size: 310"),
        ("distill bert small-bert.yaml", "vocab_size: 310"),
    ],
)
def test_another_vocabulary_is_refused_before_anything_is_made(
    command: str, tokenizer: str, beside: WarmCommandLine
) -> None:
    words, other = command.split(), f"tokenizer={{{tokenizer}}}"
    refused = beside(*words, *options(other, "run_dir=nothing"))
    assert refused.code == 2
    assert "another vocabulary than the student" in refused.err
    teacher = "bert" if "bert" in words else "teacher"
    assert f"tokenizer: {{path: {teacher}/tokenizer/shared.model}}" in refused.err
    assert not (beside.folder / "nothing").exists()


def test_files_of_the_same_pieces_are_one_vocabulary(folder: Path, warm: WarmCommandLine) -> None:
    shutil.copy(folder / "teacher/tokenizer/shared.model", folder / "a.model")
    sides = options("tokenizer={path: {source: a.model, target: teacher/tokenizer/shared.model}}")
    assert "teacher  4 likeliest" in succeed(warm, "prepare", "student.yaml", *sides).out


def test_a_teacher_that_reads_too_little_or_features_is_refused(
    folder: Path, warm: WarmCommandLine
) -> None:
    short = options("run_dir=short", "data.filters.max_tokens=12", "model.max_positions=12",
                    "tokenizer={path: teacher/tokenizer/shared.model}")  # fmt: skip
    succeed(warm, "prepare", "teacher.yaml", *short)
    succeed(warm, "train", "teacher.yaml", *short)
    refused = warm("prepare", "student.yaml", *options("distillation.teachers=[short]"))
    assert refused.code == 2
    assert "short: this teacher reads 12 tokens at once, and the training data have" in refused.err
    assert "set data.filters.max_tokens: 12" in refused.err

    reads = options("run_dir=reader", "model.features={run: bert}")
    succeed(warm, "prepare", "teacher.yaml", *reads)
    succeed(warm, "train", "teacher.yaml", *reads)
    refused = warm("prepare", "student.yaml", *options("distillation.teachers=[reader]"))
    assert refused.code == 2
    assert "reader: this teacher reads the states of a BERT" in refused.err


def test_distributions_that_the_disk_has_no_room_for_are_not_begun(
    folder: Path, warm: WarmCommandLine
) -> None:
    succeed(warm, "prepare", "student.yaml", *options("data_dir=data", "distillation.top_k=300"))
    files = [path for path in (folder / "data").rglob("*") if path.is_file()]
    pages = sum(-(-path.stat().st_size // 4096)
                for path in files if not path.name.startswith("teacher"))  # fmt: skip
    prepare = f"{sys.executable} -m mtrain prepare student.yaml --set data_dir=disk/data"
    ended = on_a_small_disk(folder, 4 * pages, f"{prepare} --set distillation.top_k=300")
    assert ended.code == 2, ended.err
    assert "distributions of 300 tokens" in ended.err
    assert "lower distillation.top_k" in ended.err


def test_a_bert_learns_from_a_bert_in_training(folder: Path, warm: WarmCommandLine) -> None:
    succeed(warm, "prepare", "small-bert.yaml")
    assert not list((folder / "small-bert" / "data" / "train").glob("teacher*"))
    stopped = options("training.max_updates=2", "training.valid_every=2")
    succeed(warm, "train", "small-bert.yaml", *stopped)
    assert "resuming" in succeed(warm, "train", "small-bert.yaml").err
    plain = yaml.safe_dump({**BERT_STUDENT, "run_dir": "plain", "distillation": None})
    (folder / "plain.yaml").write_text(plain)
    succeed(warm, "prepare", "plain.yaml")
    succeed(warm, "train", "plain.yaml")
    assert losses(folder / "small-bert")[0] != losses(folder / "plain")[0]
    assert "accuracy" in succeed(warm, "score", "small-bert").out

    other = options("run_dir=other", "seed=2", "tokenizer={path: bert/tokenizer/shared.model}")
    succeed(warm, "prepare", "bert.yaml", *other)
    succeed(warm, "train", "bert.yaml", *other)
    more = options("distillation.teachers=[other]", "training.max_updates=6")
    refused = warm("train", "small-bert.yaml", *more)
    assert refused.code == 2
    assert "trained with another teacher than distillation.teachers names now" in refused.err


def test_a_teacher_that_does_not_fit_a_bert_is_refused_by_train(
    folder: Path, warm: WarmCommandLine
) -> None:
    succeed(warm, "prepare", "small-bert.yaml")

    def refuse(problem: str, hint: str, *overrides: str) -> None:
        refused = warm("train", "small-bert.yaml", *options(*overrides))
        assert refused.code == 2
        assert problem in refused.err
        assert hint in refused.err
        assert not (folder / "small-bert" / "checkpoints").exists()

    refuse("none is named", "mtrain distill", "distillation.teachers=[]")
    refuse(
        "2 runs, and a bert has one teacher", "name one", "distillation.teachers=[bert, teacher]"
    )
    refuse("teacher: this teacher translates, and the student is a bert",
           "name the run of a bert", "distillation.teachers=[teacher]")  # fmt: skip
    refuse("the hidden states of this teacher have width 16, those of the student 32",
           "set model.d_model: 16", "model.d_model=32")  # fmt: skip
    wider = options("model.d_model=32", "distillation.hidden_weight=0", "training.max_updates=1",
                    "run_dir=wider", "data_dir=small-bert/data")  # fmt: skip
    succeed(warm, "train", "small-bert.yaml", *wider)

    short = options("run_dir=short", "data.filters.max_tokens=12", "model.max_positions=12",
                    "tokenizer={path: bert/tokenizer/shared.model}")  # fmt: skip
    succeed(warm, "prepare", "bert.yaml", *short)
    succeed(warm, "train", "bert.yaml", *short)
    refuse("short: this teacher reads 12 tokens at once", "set data.filters.max_tokens: 12",
           "distillation.teachers=[short]")  # fmt: skip

    other = ("tokenizer={vocab_size: 310}", "data_dir=other-data")
    succeed(warm, "prepare", "small-bert.yaml", *options(*other))
    refuse("another vocabulary than the student",
           "tokenizer: {path: bert/tokenizer/shared.model}", *other)  # fmt: skip


def test_the_verb_distills_translations_and_distributions_together(
    folder: Path, warm: WarmCommandLine
) -> None:
    both = ("distill", "teacher", "student.yaml", *options("distillation.targets=best"))
    done = succeed(warm, *both)
    assert "distributions of 4 tokens" in done.err
    assert "teacher  4 likeliest tokens of teacher at " in done.err
    assert (folder / "student/data-distilled/0.target").is_file()
    assert "student int8: " in done.out
    assert "nothing changed, nothing to do" in succeed(warm, *both).err


def test_several_teachers_are_averaged_and_another_one_is_noticed(
    folder: Path, warm: WarmCommandLine
) -> None:
    shutil.copytree(folder / "teacher", folder / "copy")
    best = ("student.yaml", *options("distillation.targets=best"))
    done = succeed(warm, "distill", "teacher", *best, "--with", "copy", "--json")
    assert "CTranslate2 has no ensembles" in done.err
    assert "by teacher/checkpoints/update-00000004 + copy/checkpoints/update-00000004" in done.err
    assert "4 likeliest tokens of teacher + copy at" in done.err
    wanted = succeed(warm, "translate", "teacher", "train.digits").out
    assert (folder / "student/data-distilled/0.target").read_text() == wanted
    row, student = json.loads(done.out)["rows"][:2]
    sizes = [(run / "checkpoints/update-00000004/model.safetensors").stat().st_size / 1e6
             for run in (folder / "teacher", folder / "student")]  # fmt: skip
    assert row["megabytes"] == pytest.approx(2 * sizes[0])
    assert student["megabytes"] == pytest.approx(sizes[1])
    scored = succeed(warm, "score", "teacher", "--json", *options("decoding.beam_size=5"))
    (of_teacher,) = json.loads(scored.out)["sets"]
    assert row["scores"]["BLEU"] == pytest.approx(of_teacher["scores"][0]["value"])
    again = succeed(warm, "distill", "teacher", *best, "--with", "copy")
    assert "translated before, nothing to do" in again.err
    assert "nothing changed, nothing to do" in again.err
    new = options("distillation.targets=best", "run_dir=new", "data_dir=student/data")
    refused = warm("train", "student.yaml", *new)
    assert refused.code == 2
    assert "teacher: not the teacher that student/data was prepared with" in refused.err
    before = contents(folder / "student")
    fewer = warm("distill", "teacher", *best)
    assert "distillation.teachers.1: 'copy' -> None" in fewer.err
    alone = warm("train", *best, "--set", "distillation.teachers=[]")
    assert "a student continues with `mtrain distill`, which names its teachers" in alone.err
    assert contents(folder / "student") == before  # the translations, too
    other = (*best, "--set", "run_dir=other", "--set", "data_dir=student/data")
    anew = succeed(warm, "distill", "teacher", *other)
    assert "of another model, text or search; translating afresh" in anew.err


def test_the_verb_distills_a_bert_and_compares_the_same_masks(
    folder: Path, warm: WarmCommandLine
) -> None:
    halved = options("model={init_from: {run: bert, layers: every_second}, encoder_layers: 1}")
    done = succeed(warm, "distill", "bert", "small-bert.yaml", "--json", *halved)
    assert "copied 100.0% of " in done.err
    teacher, student = json.loads(done.out)["rows"]
    assert teacher["parameters"] > student["parameters"]
    for row, run in ((teacher, "bert"), (student, "small-bert")):
        scored = json.loads(succeed(warm, "score", run, "--json").out)["sets"][0]["scores"]
        assert row["scores"]["accuracy"] == pytest.approx(scored[0]["value"])
        assert row["speeds"]["texts/s"] > 0
    gap = student["scores"]["accuracy"] - teacher["scores"]["accuracy"]
    assert student["difference"] == pytest.approx(gap)
    (checkpoint,) = (folder / "bert/checkpoints").glob("update-*")
    state, manifest = checkpoint / "state.json", checkpoint / "manifest.json"
    before = file_digest(state)
    state.write_text(json.dumps(json.loads(state.read_text()) | {"lacks_head": True}))
    manifest.write_text(manifest.read_text().replace(before, file_digest(state)))
    states = options("distillation={weight: 0, hidden_weight: 1}", "run_dir=states")
    done = succeed(warm, "distill", "bert", "small-bert.yaml", "--json", *states)
    assert [row["system"] for row in json.loads(done.out)["rows"]] == ["student"]
    assert "the student is measured alone" in done.err
    untested = warm("distill", "bert", "small-bert.yaml", *options("data.test=[]", "run_dir=new"))
    assert untested.code == 2
    assert "data.test: no test set to compare teacher and student on" in untested.err
    assert not (folder / "new").exists()
    refused = warm("distill", "teacher", "small-bert.yaml")
    assert refused.code == 2
    assert "this teacher translates, and its student fills masked tokens" in refused.err

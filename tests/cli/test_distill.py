"""`mtrain distill`: a student learns from its teacher's translations, whatever interrupts it."""

import json
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from mtrain.commands import distill
from mtrain.data.folders import DataFolder, RunFolder
from mtrain.errors import UserError
from mtrain.evaluation.metrics import nearest
from mtrain.inference.load import LoadedRun, load_run
from tests.cli.conftest import contents
from tests.cli.warm import WarmCommandLine
from tests.conftest import TINY_CONFIG, every_line, succeed

STUDENT = TINY_CONFIG.replace("run_dir: run\n", "run_dir: student\n").replace(
    "encoder_layers: 2\n  decoder_layers: 2", "encoder_layers: 1\n  decoder_layers: 1"
)
FILES = Path("student/data-distilled")
DISTILL = ("distill", "run", "student.yaml")


@pytest.fixture
def beside(trained_copy: Path, server: None) -> Iterator[WarmCommandLine]:
    """The command line beside a trained teacher and the configuration of a student."""
    (trained_copy / "student.yaml").write_text(STUDENT)
    with closing(WarmCommandLine(trained_copy)) as warm:
        yield warm


def lines_of(folder: Path, name: str) -> list[str]:
    return every_line((folder / name).read_text())


def learnt_in(run: Path) -> dict[str, bytes]:
    """Return the text and the weights of a student."""
    files = contents(run / "data-distilled") | contents(run / "checkpoints")
    return {name: content for name, content in files.items()
            if not name.endswith("json")}  # fmt: skip


def test_a_student_learns_the_translations_of_its_teacher(beside: WarmCommandLine) -> None:
    folder = beside.folder
    early = beside("prepare", "student.yaml", "--set", "distillation.teachers=[run]")
    assert early.code == 2
    assert "run first: mtrain distill TEACHER CONFIG.yaml" in early.err
    done = succeed(beside, *DISTILL)
    engine = ("--engine", "ctranslate2")
    wanted = succeed(beside, "translate", "run", "train.digits", *engine).out
    assert (folder / FILES / "0.target").read_text() == wanted
    assert (folder / FILES / "0.source").read_text() == (folder / "train.digits").read_text()
    rows = {cells[0]: cells for cells in (re.split(r"  +", line.strip())
            for line in every_line(done.out)) if len(cells) > 5}  # fmt: skip
    assert rows.keys() == {"parameters", "teacher", "student", "student int8"}
    report = json.loads((folder / "student/distillation.json").read_text())
    scores = [row["scores"]["BLEU"] for row in report["rows"]]
    score = json.loads(
        succeed(beside, "score", "run", "--json", "--set", "decoding.beam_size=5").out
    )
    assert scores[0] == pytest.approx(score["sets"][0]["scores"][0]["value"])
    assert report["rows"][1]["difference"] == pytest.approx(scores[1] - scores[0])
    assert report["rows"][1]["parameters"] < report["rows"][0]["parameters"]
    assert report["rows"][2]["megabytes"] < report["rows"][1]["megabytes"]
    assert all(speed > 0 for row in report["rows"] for speed in row["speeds"].values())
    before = contents(folder / "student/checkpoints")
    again = succeed(beside, *DISTILL)
    assert "translated before, nothing to do" in again.err
    assert "nothing changed, nothing to do" in again.err
    assert contents(folder / "student/checkpoints") == before
    for side in ("digits", "words"):
        text = folder / f"train.{side}"
        text.write_text(text.read_text() + every_line(text.read_text())[0] + "\n")
    late = beside("prepare", "student.yaml", "--set", "distillation.teachers=[run]")
    assert late.code == 2
    assert "these are translations of another text than data.train has now" in late.err


def test_interpolated_targets_are_the_nearest_and_own_ones_are_mixed_in(
    beside: WarmCommandLine,
) -> None:
    folder = beside.folder
    settings = ("--set", "distillation.targets=interpolated",
                "--set", "distillation.original_share=0.25")  # fmt: skip
    succeed(beside, *DISTILL, *settings, "--set", "training.max_updates=2")
    found = [json.loads(line) for line in lines_of(folder, str(FILES / "0.translations"))]
    assert {len(each) for each in found} == {3}  # the teacher's beam
    pairs = list(zip(*(lines_of(folder, f"train.{side}") for side in ("digits", "words")),
                     strict=True))  # fmt: skip
    expected = {(source, each[nearest(each, own, "words")])
                for (source, own), each in zip(pairs, found, strict=True)}  # fmt: skip
    written = list(zip(*(lines_of(folder, str(FILES / f"0.{side}"))
                         for side in ("source", "target")), strict=True))  # fmt: skip
    assert expected <= set(written) <= expected | set(pairs)
    assert len(written) == len(pairs) + round(len(pairs) / 3)  # a quarter of all


def test_text_without_translations_is_learnt_too_and_has_no_tag(beside: WarmCommandLine) -> None:
    folder = beside.folder
    text = "{text: valid.digits, lang: digits, name: more}"
    (folder / "student.yaml").write_text(
        STUDENT.replace("train.words}]", f"train.words}}, {text}]")
    )
    succeed(beside, *DISTILL, "--set", "training.max_updates=2")
    data = DataFolder(folder / "student/data")
    assert data.manifest()["filtered"][1]["corpus"] == "more"
    assert lines_of(folder, str(FILES / "1.source")) == lines_of(folder, "valid.digits")
    assert "<bt>" not in data.tokenizers().source.pieces(range(data.tokenizers().vocab_size))
    (folder / "student.yaml").write_text(
        STUDENT.replace("train.words}]", "train.words}, {text: gone.digits, lang: digits}]")
    )
    gone = beside(*DISTILL)
    assert gone.code == 2
    assert "gone.digits" in gone.err


def test_held_out_pairs_are_taken_from_the_corpus_and_not_from_the_teacher(
    beside: WarmCommandLine,
) -> None:
    folder = beside.folder
    taken = STUDENT.replace(
        "valid: [{source: valid.digits, target: valid.words}]", "valid: {from_train: 20}"
    )
    (folder / "student.yaml").write_text(taken)
    succeed(beside, *DISTILL, "--set", "training.max_updates=2")
    pairs = dict(zip(*(lines_of(folder, f"train.{side}") for side in ("digits", "words")),
                     strict=True))  # fmt: skip
    text = folder / "student/data/text"
    sources, targets = (every_line((text / f"valid.{side}").read_text())
                        for side in ("source", "target"))  # fmt: skip
    assert len(sources) >= 20
    assert [pairs[source] for source in sources] == targets
    data = DataFolder(folder / "student/data")
    store, tokenizer = data.store("train"), data.tokenizers().source
    learnt = set(tokenizer.decode([store.source.row(row) for row in range(len(store))]))
    assert not learnt & set(sources)


def test_a_killed_distillation_resumes_and_ends_alike(beside: WarmCommandLine) -> None:
    folder = beside.folder
    lines = {side: (folder / f"train.{side}").read_text() for side in ("digits", "words")}
    for side, text in lines.items():  # some blocks
        (folder / f"train.{side}").write_text(text * (2 + 4_000 // len(every_line(text))))
    succeed(beside, *DISTILL)
    wanted = learnt_in(folder / "student")
    shutil.rmtree(folder / "student")
    journal, told = folder / FILES / ".0.translations.journal", []
    for is_reached in (
        journal.is_file,
        (folder / "student/data/manifest.json").is_file,
        lambda: any((folder / "student/checkpoints").glob("update-*")),
        (folder / "student/ctranslate2-int8").is_dir,
    ):
        running = beside.start(*DISTILL)
        running.wait_until(is_reached)
        running.send(signal.SIGKILL)
        told.append(running.finish().err)
    done = succeed(beside, *DISTILL)
    assert "resuming after " in told[1]
    assert "translated before" in told[2]
    assert "nothing changed, nothing to do" in told[2]
    assert "resuming from " in told[3]
    assert "translated before" in done.err
    assert learnt_in(folder / "student") == wanted


def test_the_gate_fails_with_the_table(beside: WarmCommandLine) -> None:
    passed = succeed(beside, *DISTILL, "--fail-if-gap", "1000", "--json")
    assert {row["system"] for row in json.loads(passed.out)["rows"]} >= {"teacher", "student"}
    failed = beside(*DISTILL, "--fail-if-gap", "-1000")
    assert failed.code == 1
    assert "student on held-out: " in failed.err
    assert "BLEU below the teacher, over -1000" in failed.err
    assert "parameters" in failed.out
    as_json = beside(*DISTILL, "--fail-if-gap", "-1000", "--json")
    assert as_json.code == 1
    assert (
        json.loads(as_json.out)["rows"][0]["scores"] == json.loads(passed.out)["rows"][0]["scores"]
    )


def test_what_cannot_be_distilled_is_named(beside: WarmCommandLine) -> None:
    folder = beside.folder
    bert = ("--set", "training.objective=masked_lm", "--set", "distillation.weight=0.5", "--set",
            "model={type: bert, max_positions: 128}", "--set", "decoding={}")  # fmt: skip
    reverse = STUDENT.replace("source_lang: digits", "source_lang: words").replace(
        "target_lang: words", "target_lang: digits"
    )
    (folder / "reverse.yaml").write_text(reverse)
    shutil.copytree(folder / "run", folder / "one")
    config = folder / "one/config.yaml"
    config.write_text(config.read_text().replace("beam_size: 3", "beam_size: 1"))
    for command, told in (
        (("distill", "nothing", "student.yaml"), "nothing: there is no such run folder"),
        ((*DISTILL, "--set", "run_dir=run"), "run: the teacher is the run_dir of the student"),
        ((*DISTILL, *bert), "this teacher translates, and its student fills masked tokens"),
        (("distill", "run", "reverse.yaml"), "needs a teacher that translates words to digits"),
        ((*DISTILL, "--with", "run"), "run: this run is named twice"),
        ((*DISTILL, "--with", "student"), "student: there is no such run folder"),
        (
            (*DISTILL, "--set", "distillation.targets=original"),
            "nothing is learnt from the teacher",
        ),
        ((*DISTILL, "--set", "data.valid.0.source=gone.digits"), "gone.digits: there is no such"),
        (
            (*DISTILL, "--set", "tokenizer={path: gone.model}", "--set", "distillation.weight=0.5"),
            "gone.model",
        ),
        (
            ("distill", "one", "student.yaml", "--set", "distillation.targets=interpolated"),
            "interpolated chooses among hypotheses, and one makes one a sentence",
        ),
        ((*DISTILL, "--set", "distillation.hidden_weight=1"), "only a bert learns hidden states"),
        (
            (*DISTILL, "--set", "distillation.weight=0.5", "--set", "training.consistency={}"),
            "cannot be used with training.consistency",
        ),
    ):
        refused = beside(*command)
        assert refused.code == 2
        assert told in refused.err
        assert not (folder / "student").exists()


def test_what_ctranslate2_cannot_do_ends_no_distillation(
    trained_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder.open(trained_run)
    loaded = load_run(run, run.config(), None)

    def refuse(*given: object) -> None:
        raise UserError("another result on this processor")

    monkeypatch.setattr(LoadedRun, "translator", refuse)
    assert distill._with_fast_engine(loaded, loaded.config) is loaded
    monkeypatch.setattr(distill, "export_run", refuse)
    assert distill._export(loaded) is None
    told = capsys.readouterr().err
    assert "searching with our own engine: another result on this processor" in told
    assert "warning: no export in eight bits: another result on this processor" in told


def test_a_student_larger_than_its_teacher_is_warned_of(beside: WarmCommandLine) -> None:
    larger = ("--set", "model.ffn_dim=2048", "--set", "training.max_updates=2")
    guarded = ("--set", "decoding.repetition_guard=true")  # CTranslate2 has no such thing
    done = succeed(beside, *DISTILL, *larger, *guarded)
    assert "more than its teacher" in done.err
    assert "no export in eight bits: " in done.err
    assert "repetition_guard" in done.err
    assert "student int8" not in done.out

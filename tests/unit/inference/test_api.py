"""The Python API: what `mtrain.load(RUN).translate(lines)` gives."""

import subprocess
import sys
from pathlib import Path

import pytest

import mtrain
from mtrain.commands.train import train
from mtrain.errors import UserError
from mtrain.inference.load import LoadedRun
from mtrain.runtime.onednn import can_multiply_bf16
from tests.in_process import small_config

LINES = ["1 2 3", "", "9 8 7 6", "0"]


@pytest.fixture(scope="module")
def run_dir(small_task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("api") / "run"
    train(small_config(small_task, path, {"max_updates": 40, "valid_every": 40}))
    return path


@pytest.fixture
def model(run_dir: Path) -> LoadedRun:
    return mtrain.load(run_dir)


def test_importing_mtrain_imports_no_torch() -> None:
    program = "import sys, mtrain; assert 'torch' not in sys.modules; mtrain.load"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_each_line_has_a_translation_in_order_and_an_empty_one_is_empty(model: LoadedRun) -> None:
    translations = model.translate(LINES)
    assert [translation.is_empty for translation in translations] == [False, True, False, False]
    assert translations[1].text == ""
    assert [model.translate([line])[0].text for line in LINES] == [t.text for t in translations]
    assert translations[0].score < 0
    assert translations[0].links is None


def test_options_of_decoding_are_those_of_one_call(model: LoadedRun) -> None:
    (three,) = model.translate(LINES[:1], beam_size=4, n_best=3)
    assert len(three.texts) == len(three.scores) == 3
    assert three.scores == sorted(three.scores, reverse=True)
    (again,) = model.translate(LINES[:1])
    assert len(again.texts) == 1


def test_precision_is_one_of_them(model: LoadedRun) -> None:
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        model.translate(LINES[:1], precision="fp16")
    if can_multiply_bf16():
        assert model.with_decoding(precision="bf16").precision.name == "bf16"


def test_alignments_link_the_words_of_line_and_translation(model: LoadedRun) -> None:
    for line, translation in zip(LINES, model.translate(LINES, alignments=True), strict=True):
        assert translation.links is not None
        sizes = len(line.split()), len(translation.text.split())
        assert all(source < sizes[0] and target < sizes[1] for source, target in translation.links)
        assert bool(translation.links) is bool(translation.text)


@pytest.mark.parametrize("options", [{"beam": 3}, {"beam_size": 0}, {"n_best": 9}])
def test_an_option_that_does_not_exist_or_fit_is_the_callers_to_mend(
    options: dict[str, int], model: LoadedRun
) -> None:
    with pytest.raises(UserError, match="decoding"):
        model.translate(LINES, **options)


def test_a_model_without_its_training_state_translates_the_same(
    run_dir: Path, model: LoadedRun, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither optimiser state nor averages are read: a damaged one goes unnoticed."""
    expected = [translation.text for translation in model.translate(LINES)]
    for path in (run_dir / "checkpoints").glob("*/training.safetensors"):
        path.write_bytes(b"")
    assert [translation.text for translation in mtrain.load(run_dir).translate(LINES)] == expected
    assert capsys.readouterr().err == ""


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such run"):
        mtrain.load(tmp_path / "nowhere")

"""The measurement of distillation: its configurations, and what its table says."""

import json
from pathlib import Path
from typing import Any

import pytest

from mtrain.config import load_config
from mtrain.data.folders import RunFolder

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[3] / "scripts" / "lesson"))
    import distillation


def lab_of(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> distillation.Lab:
    """Return a lab whose verbs do nothing, and whose student is half as good as its teacher."""

    def noted(verb: str, *arguments: str) -> str:
        scores = [{"name": name, "value": 20.0} for name in ("BLEU", "accuracy")]
        rows = [{"system": system, "scores": {"BLEU": value, "accuracy": value},
                 "megabytes": 10.0 * value, "speeds": {"greedy": 100 / value} if is_first else {}}
                for is_first in (True, False)
                for system, value in (("teacher", 40.0), ("student", 30.0), ("student int8", 20.0))
                ]  # fmt: skip
        return json.dumps({"sets": [{"name": "test", "scores": scores}], "rows": rows})

    def curve(run: Path) -> list[dict[str, Any]]:
        return [{"bleu": 19.0, "accuracy": 29.0}, {"bleu": 21.0, "accuracy": 31.0}]

    monkeypatch.setattr(distillation, "mtrain", noted)
    monkeypatch.setattr(distillation, "learning_curve", curve)
    return distillation.Lab(tmp_path / "out", tmp_path, distillation.TASKS[task])


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> distillation.Lab:
    """A lab of translators."""
    return lab_of("multi30k", tmp_path, monkeypatch)


@pytest.mark.parametrize("task", distillation.TASKS)
def test_every_configuration_loads(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = lab_of(task, tmp_path, monkeypatch)
    lab.teach()
    for folder in (lab.vocabulary.parent, lab.teacher / "tokenizer"):
        folder.mkdir(parents=True)
        (folder / lab.vocabulary.name).write_bytes(b"")
    teacher = load_config(lab.out / "teacher.yaml")
    assert teacher.distillation is None
    RunFolder(lab.teacher).begin_empty(teacher)
    for way in lab.task.ways:
        lab.learn(way, 2)
        config = load_config(lab.out / f"{way}-2.yaml")
        assert config.seed == 2
        assert (config.distillation is None) == (way == "plain")


def test_a_plain_student_does_not_wait_for_its_teacher(lab: distillation.Lab) -> None:
    lab.learn("plain", 1)
    assert (lab.out / "teacher.yaml").exists()
    assert {path.stem for path in lab.results.iterdir()} == {"plain-1"}
    lab.learn("best", 1)
    assert {path.stem for path in lab.results.iterdir()} == {"plain-1", "teacher", "best-1"}


def test_the_table_has_the_mean_of_the_seeds_and_shares_of_the_teachers(
    lab: distillation.Lab,
) -> None:
    lab.teach()
    for seed in (1, 2):
        lab.learn("best", seed)
    told = lab.describe()
    assert "| teacher | 1 | 21.0 | test 20.0 |" in told
    shares = "0.50 x BLEU, 0.50 x bytes, 2.00 x greedy"
    assert f"| best | 2 | 21.0 ± 0.0 | test 20.0 ± 0.0 | {shares} |" in told

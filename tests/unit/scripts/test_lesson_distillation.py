"""The measurement of distillation: its configurations, and what its table says."""

import json
from pathlib import Path
from typing import Any

import pytest

from mtrain.config import load_config

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[3] / "scripts" / "lesson"))
    import distillation
    import steps


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> distillation.Lab:
    """A lab whose verbs do nothing, and whose student is half as good as its teacher."""

    def noted(verb: str, *arguments: str) -> str:
        scores = [{"name": "BLEU", "value": 20.0, "signature": "nrefs:1"}]
        rows = [{"system": system, "scores": {"BLEU": bleu}, "megabytes": 10.0 * bleu,
                 "speeds": {"greedy": 100 / bleu}}
                for system, bleu in (("teacher", 40.0), ("student int8", 20.0))]  # fmt: skip
        return json.dumps({"sets": [{"scores": scores}], "rows": rows})

    def curve(run: Path) -> list[dict[str, Any]]:
        return [{"bleu": 19.0}, {"bleu": 21.0}]

    for module in (distillation, steps):
        monkeypatch.setattr(module, "mtrain", noted)
    monkeypatch.setattr(distillation, "learning_curve", curve)
    return distillation.Lab(tmp_path / "out", tmp_path)


def test_every_configuration_loads(lab: distillation.Lab) -> None:
    lab.teach()
    lab.vocabulary.parent.mkdir(parents=True)
    lab.vocabulary.write_bytes(b"")
    assert load_config(lab.out / "teacher.yaml").distillation is None
    for way in distillation.WAYS:
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
    assert "| teacher | 1 | 21.0 | 20.0 |" in told
    shares = "0.50 x BLEU, 0.50 x bytes, 2.00 x greedy"
    assert f"| best | 2 | 21.0 ± 0.0 | 20.0 ± 0.0 | {shares} |" in told

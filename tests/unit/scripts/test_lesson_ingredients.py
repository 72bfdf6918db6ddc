"""The measurement of ingredients: its configurations, and what its table says."""

import json
from pathlib import Path
from typing import Any

import pytest

from mtrain.config import load_config

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[3] / "scripts" / "lesson"))
    import ingredients


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ingredients.Lab:
    """A lab whose verbs do nothing; R-Drop and the second seed are each one BLEU better."""

    def noted(verb: str, *arguments: str) -> str:
        run = Path(arguments[0]).name
        bleu = 30.0 + run.startswith("R-Drop") + run.endswith("-2")  # both recipes with it
        scores = [{"name": name, "value": value, "signature": "nrefs:1"}
                  for name, value in (("BLEU", bleu), ("BLEU-tok-lc", bleu + 2))]  # fmt: skip
        return json.dumps({"sets": [{"scores": scores}]})

    def curve(run: Path) -> list[dict[str, Any]]:
        return [{"bleu": 19.0}]

    monkeypatch.setattr(ingredients, "mtrain", noted)
    monkeypatch.setattr(ingredients, "learning_curve", curve)
    return ingredients.Lab(tmp_path / "out", tmp_path, "cpu")


def test_every_ingredient_loads_and_two_passes_count_twice(lab: ingredients.Lab) -> None:
    for name, changes in ingredients.INGREDIENTS.items():
        lab.learn(name, 1)
        config = load_config(lab.out / f"{lab._path(name, 1).stem}.yaml")
        has_two_passes = config.training.consistency is not None
        assert has_two_passes == ("training.consistency" in changes)
        assert config.training.max_updates == ingredients.UPDATES // (1 + has_two_passes)
        assert str(config.data.test[0]).count("val.") == 2


def test_the_table_compares_with_the_base(
    lab: ingredients.Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("base", "R-Drop"):
        for seed in (1, 2):
            lab.learn(name, seed)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]]
            for line in lab.describe(list(ingredients.INGREDIENTS)).splitlines()[2:]]  # fmt: skip
    assert [row[:5] for row in rows] == [
        ["base", "2", "30.5 ± 0.7", "32.5 ± 0.7", ""],
        ["R-Drop", "2", "31.5 ± 0.7", "33.5 ± 0.7", "+1.0 ± 0.7"],
    ]
    monkeypatch.setattr(ingredients, "UPDATES", 7)
    for look in (lambda: lab.learn("base", 1), lambda: lab.describe(["base"])):
        with pytest.raises(SystemExit, match="this result is of other settings"):
            look()


def test_the_final_recipe_is_scored_on_test(lab: ingredients.Lab) -> None:
    for seed in ingredients.SEEDS:
        lab.together()
        assert not (lab.results / "final-together.json").exists()
        lab.learn("final", seed)
    config = load_config(lab.out / "final-3.yaml")
    assert str(config.data.test[0]).count("test_2016_flickr.") == 2
    lab.together()  # the runs are gone
    assert not (lab.results / "final-together.json").exists()
    for seed in ingredients.SEEDS:
        (lab.out / f"runs/final-{seed}").mkdir(parents=True)
    lab.together()
    assert (lab.results / "final-together.json").exists()

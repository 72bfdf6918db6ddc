"""The lesson's second half: its configurations, how it tunes, and what its table says."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mtrain.config import load_config

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[3] / "scripts" / "lesson"))
    import second_half
    import steps
    import transfer


class Recorded(transfer.Lab):
    """A lab whose trainings write their configuration and score what a function says."""

    def __init__(self, folder: Path, quality: Any = None) -> None:
        for split in ("train", "val", "test_2016_flickr"):
            for lang in ("en", "de"):
                (folder / f"{split}.{lang}").write_text("".join(f"{n} {lang}\n" for n in range(40)))
        super().__init__(folder / "out", folder, [])
        self.trees: list[dict[str, Any]] = []
        self._quality = quality

    def _files(self, split: str) -> tuple[Path, Path]:
        stem = "test_2016_flickr" if split == transfer.TEST else split
        return self.multi30k / f"{stem}.en", self.multi30k / f"{stem}.de"

    def _train(self, name: str, tree: dict[str, Any]) -> float:
        self.trees.append(tree)
        return super()._train(name, tree)

    def quality(self, way_name: str, pairs: int, changes: Mapping[str, Any]) -> float:
        return float(self._quality(pairs, changes))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Commands of `mtrain`, noted and not run."""
    commands: list[str] = []

    def noted(*arguments: str) -> str:
        commands.append(arguments[0])
        return json.dumps({"sets": []})

    monkeypatch.setattr(transfer, "mtrain", noted)
    monkeypatch.setattr(steps, "mtrain", noted)
    return commands


def test_every_configuration_loads(
    tmp_path: Path, trained: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "UPDATES", {20: 16})
    lab = Recorded(tmp_path)
    lab.pretrain()
    assert trained == ["prepare", "train", "score"]
    bert = load_config(lab.out / "bert.yaml")
    assert bert.learns_from_text
    tokenizer = lab.bert / "tokenizer"
    tokenizer.mkdir(parents=True)
    (tokenizer / "shared.model").write_bytes(b"")
    (lab.bert / "config.yaml").write_text((lab.out / "bert.yaml").read_text())
    for name, way in transfer.WAYS.items():
        tree = lab._config(name, name, 20, transfer.SETTINGS[29_000][name], 2)
        lab._train(name, tree)
        config = load_config(lab.out / f"{name}.yaml")
        assert config.seed == 2
        assert (config.model.base is not None) == bool(way.parts)
        features = getattr(config.model, "features", None)
        assert (features is not None) == way.reads
        assert len(config.data.train) == 1
    assert len((lab.out / "text" / "20.en").read_bytes().splitlines()) == 20


def test_what_has_a_result_is_not_done_again(tmp_path: Path, trained: list[str]) -> None:
    lab = Recorded(tmp_path)
    lab.pretrain()
    lab.pretrain()
    assert trained == ["prepare", "train", "score"]


def test_it_moves_one_factor_after_another_for_as_long_as_that_helps(tmp_path: Path) -> None:
    wanted = {"tokenizer.vocab_size": 1000, "model.dropout": 0.4, "model.layers": 2,
              "training.learning_rate": 1e-3}  # fmt: skip

    def quality(pairs: int, changes: Mapping[str, Any]) -> float:
        return -sum(abs(grid.index(changes[key]) - grid.index(wanted[key]))
                    for key, grid in transfer.GRIDS.items())  # fmt: skip

    lab = Recorded(tmp_path, quality)
    assert lab.tune(transfer.BASELINE, 2000) == wanted


def test_every_way_has_settings_on_the_grids_at_every_size() -> None:
    assert set(transfer.SETTINGS) == set(transfer.UPDATES)
    for ways in transfer.SETTINGS.values():
        assert set(ways) == set(transfer.WAYS)
        for changes in ways.values():
            assert all(value in transfer.GRIDS[key] for key, value in changes.items())


def result(way: str, seed: int, bleu: float, **changes: Any) -> dict[str, Any]:
    return {"way": way, "pairs": 2000, "seed": seed, "changes": changes, "minutes": 3.0,
            "dev": [{"update": 1, "bleu": bleu - 1}, {"update": 2, "bleu": bleu}],
            "test": {"BLEU": bleu + 1}, "signatures": {"BLEU": "nrefs:1"}}  # fmt: skip


def test_the_table_has_means_and_the_gain_of_the_settings_with_most_seeds(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    told = [result("scratch", seed, 10.0 + seed, **{"model.dropout": 0.3}) for seed in (1, 2, 3)]
    told += [result("both", seed, 14.0 + seed, **{"model.dropout": 0.1}) for seed in (1, 2, 3)]
    told += [result("both", 1, 99.0, **{"model.dropout": 0.2})]  # a single one, of tuning
    told += [result("features", 2, 13.0, **{"model.dropout": 0.2})]
    for number, each in enumerate(told):
        (results / f"{number}-{each['seed']}.json").write_text(json.dumps(each))
    page = second_half.describe_transfer(results, tmp_path / "pictures")
    assert "| 2,000 | no pre-training | dropout 0.3 | 3 | 12.0 ± 1.0 | 13.0 ± 1.0 |  | 3 |" in page
    assert "| dropout 0.1 | 3 | 16.0 ± 1.0 | 17.0 ± 1.0 | +4.0 | 3 |" in page
    assert "| dropout 0.2 | 1 | 13.0 | 14.0 | +1.0 | 3 |" in page
    assert "99" not in page
    assert (tmp_path / "pictures" / "transfer.png").stat().st_size > 1000


def test_each_blank_hides_one_word() -> None:
    for text in second_half.BLANKS:
        word = text[text.index("[") + 1 : text.index("]")]
        assert text.count("[") == text.count("]") == 1
        assert word.isalpha()

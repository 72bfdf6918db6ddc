"""What two configurations differ in, and one from the defaults; which differences are moves."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from mtrain.config import Config, load_config
from mtrain.config.compare import changed_keys, only_moved, without_defaults
from mtrain.config.load import dump_tree
from tests.unit.config.test_load import SMALLEST, load
from tests.unit.conftest import PRESETS

LONGEST = SMALLEST.replace("target: a.no}", "target: a.no, alignments: a.align}, {path: a.tsv}") + (
    "  watch: [{path: a.tsv}]\n  test: [{hub: folder}]\ntokenizer: {path: a.model}\n"
)


@pytest.mark.parametrize(
    ("override", "is_move"),
    [
        ("data.train.0.source=b.en", True),
        ("data.train.0.alignments=b.align", True),
        ("data.train.0.alignments=null", False),
        ("data.train.1.path=b/b.tsv", True),
        ("data.train.1.path=a.tsv.gz", True),
        ("data.train.1.path=a.jsonl", False),
        ("data.train.1.fields=[1, 0]", False),
        ("data.train=[{path: a.tsv}]", False),
        ("data.valid.0.target=x.no", True),
        ("data.watch.0.path=b/b.tsv", True),
        ("data.watch.0.name=b", False),
        ("data.test.0.hub=elsewhere", True),
        ("data.test.0.split=test", False),
        ("tokenizer.path=b.model", True),
        ("tokenizer.path={source: a.model, target: a.model}", False),
        ("tokenizer.path=null", False),
        ("data.target_lang=nb", False),
    ],
)
def test_another_place_of_a_file_is_no_other_setting(
    override: str, is_move: bool, tmp_path: Path
) -> None:
    changed = changed_keys(load(tmp_path, LONGEST), load(tmp_path, LONGEST, override), ())
    assert changed
    assert only_moved(changed) is is_move


@pytest.mark.usefixtures("beside_base_runs")
@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_without_its_defaults_a_configuration_loads_alike(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    kept = without_defaults(config)
    assert load(tmp_path, dump_tree(kept)) == config
    written = yaml.safe_load(path.read_text("utf-8"))
    whole = () if config.model.base is None else ("model", "tokenizer")
    for name, section in kept.items():
        if name in whole:
            continue
        assert name in written
        if isinstance(section, dict):
            assert section.keys() <= written[name].keys()


@pytest.mark.parametrize(
    ("overrides", "kept"),
    [
        ([], {}),
        (["training.max_updates=3000", "model.dropout=0.1", "data.filters.max_ratio=4"], {}),
        (["training.max_minutes=5"], {"training": {"max_minutes": 5.0}}),
        (["training={max_minutes: 5, max_updates: 3000}"],
         {"training": {"max_minutes": 5.0, "max_updates": 3000}}),
        (["model.type=rnn"], {"model": {"type": "rnn"}}),
        (["model={type: transformer, d_model: 64}"], {"model": {"d_model": 64}}),
        (["tokenizer={path: {source: a, target: $$b}, shared: false}"],
         {"tokenizer": {"shared": False, "path": {"source": "a", "target": "$$b"}}}),
        (["data.filters.checks=[html]"], {"data.filters": {"checks": ["html"]}}),
        (["data.train=[{text: a.en, lang: en, tag: null}]"],
         {"data.train": [{"text": "a.en", "lang": "en", "tag": None}]}),
        (["data.valid={from_train: 5}"], {"data.valid": {"from_train": 5}}),
    ],
)  # fmt: skip
def test_what_differs_from_the_defaults(
    overrides: list[str], kept: dict[str, Any], tmp_path: Path
) -> None:
    def without(config: Config) -> dict[str, Any]:
        tree = without_defaults(config)
        assert load(tmp_path, dump_tree(tree)) == config
        return tree | {f"data.{key}": value for key, value in tree.pop("data").items()}

    smallest = without(load(tmp_path, SMALLEST))
    assert smallest.keys() == {"run_dir", "data.source_lang", "data.target_lang", "data.train",
                               "data.valid"}  # fmt: skip
    found = without(load(tmp_path, SMALLEST, *overrides))
    assert {key: found[key] for key in found if found[key] != smallest.get(key)} == kept

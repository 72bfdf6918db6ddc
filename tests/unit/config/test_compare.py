"""What two configurations differ in: places of files are told from what is learnt."""

from pathlib import Path

import pytest

from mtrain.config.compare import changed_keys, only_moved
from tests.unit.config.test_load import SMALLEST, load

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

"""The measurement of documents: its split, its configurations, and what its table says."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtrain.config import load_config
from mtrain.text.tokenizer import SEPARATOR

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(Path(__file__).parents[3] / "scripts" / "lesson"))
    import documents
    import steps

SPEECH = 7  # lines


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> documents.Lab:
    """A lab of 50 speeches, whose verbs do nothing."""

    def noted(verb: str, *arguments: str) -> str:
        return json.dumps(
            {"sets": [{"scores": [{"name": "BLEU", "value": 20.0, "signature": ""}]}]}
        )

    def translated(name: str, split: str, options: Sequence[str]) -> dict[str, Any]:
        bleu = {"BLEU": 10.0 + len(options) - (split == "mixed")}
        return {"lines": bleu, "documents": bleu, "mismatched": 3, "seconds": 1.0}

    monkeypatch.setattr(documents, "HELD_OUT", {"test": 20, "valid": 10})
    for module in (documents, steps):
        monkeypatch.setattr(module, "mtrain", noted)
    monkeypatch.setattr(documents, "learning_curve", lambda run: [{"bleu": 15.0}])
    for side in documents.SIDES:
        lines = [f"{'' if number % SPEECH else 'Mr President, '}{side} {number}\n"
                 for number in range(50 * SPEECH)]  # fmt: skip
        with gzip.open(tmp_path / f"train.{side}.gz", "wt") as file:
            file.writelines(lines)
    lab = documents.Lab(tmp_path / "out", tmp_path, [])
    monkeypatch.setattr(lab, "_translate", translated)
    monkeypatch.setattr(lab, "_sentences", lambda name: 1.5)
    lab.split()
    return lab


def test_no_document_is_in_two_sets(lab: documents.Lab) -> None:
    ids = {split: (lab.text / f"{split}.ids").read_text().split()
           for split in ("train", "valid", "test")}  # fmt: skip
    sizes = {split: len(numbers) for split, numbers in ids.items()}
    assert sizes == {"train": 50 * SPEECH - 35, "valid": 2 * SPEECH, "test": 3 * SPEECH}
    assert sum(len(set(numbers)) for numbers in ids.values()) == 50
    for split, numbers in ids.items():
        for side in documents.SIDES:
            lines = (lab.text / f"{split}.{side}").read_text().splitlines()
            assert len(lines) == len(numbers)
            assert lines[0].startswith("Mr President")


def test_every_configuration_loads(lab: documents.Lab) -> None:
    lab.teach_base()
    base = load_config(lab.out / "base.yaml")
    assert base.data.context is None
    assert SEPARATOR in base.tokenizer.symbols  # in the vocabulary of those that start from it
    for context, tokens in documents.CONTEXTS.items():
        lab.learn(context, 2)
        config = yaml.safe_load((lab.out / f"context-{context}-2.yaml").read_text())
        assert config["data"].get("context") == (tokens and {"tokens": tokens})
        assert config["data"]["filters"]["max_tokens"] == base.data.filters.max_tokens
        assert config["model"]["init_from"] == str(lab.out / "runs" / "base")


def test_the_table_has_a_row_for_each_way_to_translate(lab: documents.Lab) -> None:
    for seed in (1, 2):
        for context in documents.CONTEXTS:
            lab.learn(context, seed)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]]
            for line in lab.describe().splitlines()[2:]]  # fmt: skip
    assert [[row[0], row[3], row[4]] for row in rows] == [
        ["sentences alone", "line by line", "2"],
        *([f"chunks of up to {tokens} tokens", way, "2"] for tokens in (144, 320)
          for way in ("line by line", "in chunks", "among strangers")),
    ]  # fmt: skip
    assert [row[6:8] for row in rows] == [
        ["10.0 ± 0.0"] * 2,
        *[["10.0 ± 0.0"] * 2, ["14.0 ± 0.0"] * 2, ["13.0 ± 0.0", ""]] * 2,
    ]


def test_mixed_lines_are_those_of_test_with_their_translations(lab: documents.Lab) -> None:
    own, mixed = (
        [(lab.text / f"{split}.{side}").read_text().splitlines() for side in ("en", "de", "ids")]
        for split in ("test", "mixed")
    )
    assert mixed[2] == own[2]
    assert mixed[0] != own[0]
    pairs = [dict(zip(*each[:2], strict=True)) for each in (own, mixed)]
    assert pairs[0] == pairs[1]


def test_the_lines_of_a_document_become_one(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"a b\nc\n\nd\n")
    (tmp_path / "ids").write_bytes(b"4\n4\n5\n5\n")
    joined = documents._join(tmp_path / "text", tmp_path / "ids")
    assert joined.read_bytes() == b"a b c\n d\n"

"""The reference names every key once for all that share it, and configs/REFERENCE.md is it."""

import re
from pathlib import Path

import pytest

from mtrain.config import Config
from mtrain.config.describe import owner_of, sections_below
from mtrain.config.reference import reference

PATH = Path(__file__).parents[3] / "configs" / "REFERENCE.md"
TEXT = reference()
CHAPTERS = dict(re.findall(r"^#{2,3} (.+)\n((?:(?!#).*\n?)*)", TEXT, re.MULTILINE))
CORPORA = CHAPTERS["`data.train`, `data.valid`, `data.watch`, `data.test`"]


def rows(text: str) -> dict[str, list[str]]:
    """Return the cells of each row of the tables in a text, by key; a key stands there once."""
    found = re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE)
    assert len(found) == len({key for key, _ in found})
    return {key: re.split(r" \| ?", cells) for key, cells in found}


def blocks(chapter: str) -> dict[str, str]:
    """Return the tables of a chapter by the sentence above them."""
    return dict(re.findall(r"^(\*\*.+)\n\n((?:\|.*\n?)+)", chapter, re.MULTILINE))


def test_the_file_is_in_step() -> None:
    assert PATH.read_text("utf-8") == f"{TEXT}\n", (
        "run: mtrain config --reference > configs/REFERENCE.md"
    )


def test_every_key_stands_once_for_all_sections_that_share_it() -> None:
    keys = [(owner_of(section, key), key)
            for section in sections_below(Config) for key in section.model_fields]  # fmt: skip
    named = re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)
    assert sorted(named) == sorted(key for _, key in dict.fromkeys(keys))


def test_a_row_has_type_default_and_meaning() -> None:
    for line in TEXT.split("\n"):
        if line.startswith("| `"):
            _, kind, default, meaning = re.split(r"(?<!\\)\|", line)[1:-1]
            assert kind.strip(), line
            assert meaning.strip(), line
            assert default.strip() or "section" in kind, line


@pytest.mark.parametrize(
    ("chapter", "key", "kind", "default"),
    [
        ("Top level", "run_dir", "path", "required"),
        ("Top level", "device", "`auto`, `cpu` or `cuda`", "`auto`"),
        ("Top level", "training", "[section](#training)", ""),
        ("Top level", "seed", "integer", "`1`"),
        ("`data`", "target_lang", "string", "`null`"),
        ("`data`", "sampling_temperature", "number from 1 to 100", "`1.0`"),
        ("`data.stages`", "mix", "mapping of string to number from 0", "required"),
        ("`data.filters`", "drop_overlap", "true or false", "`true`"),
        ("`tokenizer`", "path", "path or [section](#tokenizerpath)", "`null`"),
        ("`tokenizer`", "symbols", "list of strings", "`[]`"),
        ("`tokenizer`", "character_coverage", "number above 0.9 up to 1", "`0.9995`"),
        ("`training`", "label_smoothing", "number from 0 to below 1", "see meaning"),
        ("`training`", "adam_betas", "list of 2: number from 0 to below 1", "`[0.9, 0.98]`"),
        ("`training`", "max_updates", "integer from 1", "see meaning"),
        ("`decoding`", "beam_size", "integer from 1 to 1000", "`5`"),
    ],
)
def test_types_are_in_words(chapter: str, key: str, kind: str, default: str) -> None:
    assert rows(CHAPTERS[chapter])[key][:2] == [kind, default]


def test_each_key_of_a_corpus_stands_where_it_belongs() -> None:
    tables = {lead: set(rows(table)) for lead, table in blocks(CORPORA).items()}
    assert {"name", "source_lang", "target_lang"} in tables.values()
    assert [lead for lead, keys in tables.items() if "alignments" in keys] == [
        "**Text files for training, optionally with word alignments.** In `data.train`."
    ]
    (held_out,) = [lead for lead, keys in tables.items() if "from_train" in keys]
    assert held_out.endswith("In `data.valid` and `data.test`.")
    assert len([lead for lead, keys in tables.items() if "source" in keys]) == 1


def test_each_architecture_has_its_own_keys() -> None:
    tables = {lead: rows(table) for lead, table in blocks(CHAPTERS["`model`"]).items()}
    named = {re.sub(r"\*\*.*\*\* ?", "", lead): table for lead, table in tables.items()}
    assert "dropout" in named[""]
    stacks = "With `type: transformer` (default), `type: decoder_only` or `type: bert`."
    assert "d_model" in named[stacks]
    both = "With `type: transformer` (default) or `type: bert`."
    assert named[both]["encoder_layers"][1] == "`3`"
    assert named["With `type: bert`."]["encoder_layers"][1] == "`6`"
    assert named["With `type: rnn`."]["encoder_layers"][1] == "`1`"
    assert named["With `type: rnn`."]["type"][:2] == ["`rnn`", "required"]
    assert named["With `type: transformer` (default)."]["type"][1] == "`transformer`"


def test_links_lead_to_a_heading() -> None:
    headings = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert len(anchors) == len(headings)
    assert set(re.findall(r"\(#([^)]+)\)", TEXT)) <= anchors


def test_markdown_swallows_nothing() -> None:
    outside = re.sub(r"`[^`]*`", "", TEXT.replace("**", ""))
    assert not re.search(r"(?<!\\)<", outside)
    assert TEXT.count("`") % 2 == 0

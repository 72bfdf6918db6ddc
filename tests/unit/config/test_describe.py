"""The JSON Schema agrees with the configuration's types on what is right and what is wrong."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from mtrain.config import Config, load_config
from mtrain.config.describe import description, json_schema, sections_below
from mtrain.config.load import dump_config
from tests.unit.config.json_schema import Validator
from tests.unit.conftest import PRESETS

SCHEMA = json_schema()
accepts = Validator(SCHEMA).accepts

PAIR = {"source": "a.en", "target": "a.de"}
# every kind of section stands in one of these two
SOME_KINDS: dict[str, Any] = {
    "run_dir": "runs/a",
    "data": {
        "source_lang": "en",
        "target_lang": "de",
        "train": [
            PAIR | {"name": "a", "alignments": "a.align"},
            {"path": "a.tsv", "fields": [0, 1]},
            {"hub": "x/y", "config": "de-en", "fields": ["en", "de"], "name": "hub"},
            {"text": "mono.de", "lang": "de", "tag": None},
        ],
        "stages": [{"mix": {"a": 1, "hub": 0.5}, "until": 10}, {"mix": {"a": 1}}],
        "valid": {"from_train": 100},
        "watch": [PAIR | {"name": "w"}],
        "test": [{"path": "t.jsonl", "fields": ["en", "de"]}, {"hub": "x/y", "name": "other"}],
        "filters": {"checks": ["html"]},
    },
    "tokenizer": {"path": "both.model"},
    "model": {"type": "rnn", "cell": "lstm"},
    "training": {"adam_betas": [0.9, 0.99], "learning_rate_scale": {"encoder.*": 0}},
    "decoding": {"beam_size": 2},
}
OTHER_KINDS: dict[str, Any] = {
    "run_dir": "runs/a",
    "data": {"source_lang": "en", "target_lang": "de", "train": [PAIR | {"weight": 2}],
             "valid": [PAIR], "test": {"from_train": 3}},
    "tokenizer": {"path": {"source": "a.model", "target": "b.model"}},
    "model": {"init_from": {"run": "runs/b", "parts": ["encoder"], "layers": "all"},
              "d_model": 64},
}  # fmt: skip


def errors(tree: Any) -> set[str]:
    """Return the kinds of errors that the types find; a rule of our own is a value_error."""
    try:
        Config.model_validate(tree)
    except ValidationError as error:
        return {problem["type"] for problem in error.errors()}
    return set()


def places(tree: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield every value of a tree with its path."""
    yield place, tree
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from places(value, (*place, key))


def changed(tree: Any, place: tuple[str | int, ...], value: Any) -> Any:
    """Return a copy of a tree with one value put in, or added."""
    copied = here = copy.deepcopy(tree)
    for key in place[:-1]:
        here = here[key]
    here[place[-1]] = value
    return copied


def test_the_examples_are_valid_themselves() -> None:
    assert errors(SOME_KINDS) == errors(OTHER_KINDS) == set()


@pytest.mark.usefixtures("beside_base_runs")
@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_configuration_is_accepted_as_written_and_with_all_its_defaults(path: Path) -> None:
    assert accepts(yaml.safe_load(path.read_text("utf-8")))
    assert accepts(yaml.safe_load(dump_config(load_config(path))))


@pytest.mark.parametrize("tree", [SOME_KINDS, OTHER_KINDS], ids=["one", "other"])
def test_every_kind_of_section_is_accepted(tree: Any) -> None:
    assert accepts(tree)
    assert accepts(Config.model_validate(tree).model_dump(mode="json"))


@pytest.mark.parametrize("model", [{}, {"d_model": 8}, {"type": "transformer"},
                                   {"type": "decoder_only", "norm": "post"}])  # fmt: skip
def test_the_type_of_model_may_be_left_out_for_the_default_one(model: Any) -> None:
    assert accepts(OTHER_KINDS | {"model": model})
    assert not accepts(OTHER_KINDS | {"model": model | {"cell": "lstm"}})


@pytest.mark.parametrize("tree", [SOME_KINDS, OTHER_KINDS], ids=["one", "other"])
def test_an_unknown_key_is_refused_in_every_section(tree: Any) -> None:
    names = {"mix", "learning_rate_scale"}  # whose keys are names
    sections = [place for place, value in places(tree)
                if isinstance(value, dict) and not names & set(place)]  # fmt: skip
    assert len(sections) >= 8
    for place in sections:
        assert not accepts(changed(tree, (*place, "unknown_key"), 1)), place


@pytest.mark.parametrize("tree", [SOME_KINDS, OTHER_KINDS], ids=["one", "other"])
@pytest.mark.parametrize("wrong", [{"no": "such"}, [[]], True, 3.5, "no such word"], ids=str)
def test_what_the_schema_takes_in_any_place_the_types_take_too(tree: Any, wrong: Any) -> None:
    """Rules that join several keys are the types' alone: they may refuse more."""
    for place, _ in list(places(tree))[1:]:
        tried = changed(tree, place, wrong)
        if accepts(tried):
            assert errors(tried) <= {"value_error"}, place


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("device",), "tpu"),
        (("model", "type"), "transfomer"),
        (("model", "cell"), "lstn"),
        (("training", "optimizer"), "adam"),
        (("export_to",), ["onnx"]),
        (("data", "filters", "checks"), ["htlm"]),
        (("seed",), "one"),
        (("seed",), 1.5),
        (("run_dir",), None),
        (("run_dir",), 3),
        (("data_dir",), ["a"]),
        (("data", "source_lang"), 7),
        (("data", "train"), PAIR),
        (("data", "train", 0), {"source": "a.en"}),
        (("data", "train", 0), PAIR | {"hub": "x"}),
        (("data", "valid"), {"from_train": 0}),
        (("data", "watch"), {"from_train": 2}),
        (("data", "watch", 0, "alignments"), "a.align"),
        (("data", "stages", 0, "mix"), {"two words": 1}),
        (("tokenizer", "path"), {"source": "a.model"}),
        (("tokenizer", "vocab_size"), 10),
        (("training", "adam_betas"), [0.9]),
        (("training", "label_smoothing"), 1),
        (("training", "learning_rate"), 0),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused(place: tuple[str, ...], value: Any) -> None:
    wrong = changed(SOME_KINDS, place, value)
    assert not accepts(wrong)
    assert errors(wrong)


def test_what_has_no_default_is_required() -> None:
    assert SCHEMA["required"] == ["run_dir", "data"]
    for key in SCHEMA["required"]:
        assert not accepts({name: OTHER_KINDS[name] for name in OTHER_KINDS.keys() - {key}})


def test_every_key_has_its_line_and_its_default() -> None:
    for section in sections_below(Config):
        found = SCHEMA if section is Config else SCHEMA["$defs"][section.__name__]
        for key, field in section.model_fields.items():
            node = found["properties"][key]
            assert node["description"] == description(section, key) != "", key
            if not (field.is_required() or field.default_factory):
                is_section = isinstance(field.default, BaseModel)
                assert ("default" in node) != is_section, key


def test_the_schema_speaks_no_dialect_of_pydantics() -> None:
    text = str(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "\\z" not in text
    assert "'format'" not in text

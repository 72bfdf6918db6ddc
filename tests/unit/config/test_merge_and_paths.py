"""Merge keys of YAML 1.1, with the line of each key still right; variables in paths."""

from pathlib import Path

import pytest

from mtrain.config import load_config
from mtrain.config.load import dump_config
from tests.unit.config.test_load import SMALLEST, fail, load

MERGED = """\
run_dir: runs/a
data:
  source_lang: en
  target_lang: de
  train:
    - &pair
      source: train.en
      target: train.de
    - &named {name: big, target: big.de}
  valid:
    - <<: *pair
      source: valid.en
  test:
    - <<: [*named, *pair]
"""


def test_a_merge_key_takes_over_what_does_not_stand_in_the_mapping(tmp_path: Path) -> None:
    text = MERGED.replace("- &named {name", "- &named {source: big.en, name")
    data = load(tmp_path, text).data
    assert data.valid[0].model_dump(exclude_none=True) == {
        "source": Path("valid.en"), "target": Path("train.de")}  # fmt: skip
    assert data.test[0].model_dump(exclude_none=True) == {
        "source": Path("big.en"), "target": Path("big.de"), "name": "big"}  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("target: train.de", "targett: train.de", "config.yaml:8: unknown key data.valid.0.target"),
        ("source: valid.en", "source: true", "config.yaml:12: data.valid.0.source"),
        ("source: valid.en", "source: a\n      source: b",
         "config.yaml:13: data.valid.0.source stands here a second time"),
        ("target: train.de", "target: a\n      target: b",
         "config.yaml:9: data.train.0.target stands here a second time"),
        ("source: valid.en", "<<: *named", "config.yaml:12: not YAML: a second << in one mapping"),
        ("<<: [*named, *pair]", "<<: text", "config.yaml:14: not YAML: expected a mapping"),
        ("- &pair\n", "- &pair\n      <<: *pair\n", "config.yaml: not YAML"),
        ("<<: *pair", "<<: *other", "config.yaml:11: not YAML: found undefined alias"),
        ("<<: *pair", '"<<": *pair', "config.yaml:11: unknown key data.valid.0.<<"),
    ],
)  # fmt: skip
def test_an_error_beside_a_merge_key_names_the_line_that_holds_it(
    old: str, new: str, error: str, tmp_path: Path
) -> None:
    text = MERGED.replace("- &named {name", "- &named {source: big.en, name").replace(old, new)
    assert any(line.startswith(error) for line in fail(tmp_path, text)), fail(tmp_path, text)


PATHS = """\
run_dir: $SCRATCH/runs
data_dir: ${SCRATCH}_data
data:
  source_lang: en
  target_lang: de
  train: [{source: $SCRATCH/a.en, target: a.de, alignments: $SCRATCH/a.align}]
  valid: [{path: "${SCRATCH}/b.tsv"}]
  test: [{path: a$$b.tsv}]
tokenizer: {path: {source: $SCRATCH/s, target: $SCRATCH/t}}
"""


def test_variables_are_replaced_in_every_path_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRATCH", "/big/$HOME")
    config = load(tmp_path, PATHS)
    assert (config.run_dir, config.data_dir) == (Path("/big/$HOME/runs"), Path("/big/$HOME_data"))
    assert getattr(config.data.train[0], "alignments", None) == Path("/big/$HOME/a.align")
    assert getattr(config.data.test[0], "path", None) == Path("a$b.tsv")
    written = tmp_path / "written.yaml"  # as `train` does, for another machine
    written.write_text(dump_config(config))
    monkeypatch.delenv("SCRATCH")
    assert load_config(written) == config
    assert load(tmp_path, SMALLEST, "run_dir=$$x").run_dir == Path("$x")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("data_dir: out/$NO_SUCH_${HOME}", "7: data_dir: out/$NO_SUCH_${HOME}: the environment has "
         "no variable NO_SUCH_"),
        ("tokenizer:\n  path: a$", "8: tokenizer.path: a$: a variable is $NAME or ${NAME}"),
        ("tokenizer: {path: '${x'}", "7: tokenizer.path: ${x: a variable is"),
    ],
)  # fmt: skip
def test_a_path_that_cannot_be_expanded_is_refused_with_line_and_key(
    text: str, error: str, tmp_path: Path
) -> None:
    assert fail(tmp_path, SMALLEST + text)[0].startswith(f"config.yaml:{error}")


def test_a_value_that_is_set_changes_no_other_place_of_an_alias(tmp_path: Path) -> None:
    text = MERGED.replace("- <<: [*named, *pair]", "- *pair").replace(
        "- &named {name", "- {source: big.en, name"
    )
    (tmp_path / "config.yaml").write_text(text)
    data = load_config(tmp_path / "config.yaml", ("data.test.0.source=other.en",)).data
    assert isinstance(data.test, list)
    assert data.test[0].model_dump()["source"] == Path("other.en")
    assert data.train[0].model_dump()["source"] == Path("train.en")

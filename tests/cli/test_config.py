"""`mtrain config`: a configuration without its defaults, the reference, the schema, and errors."""

import json
from pathlib import Path

import pytest

from mtrain.config import load_config
from mtrain.config.load import dump_config
from tests.cli.test_bad_input import refused
from tests.cli.warm import WarmCommandLine
from tests.conftest import TINY_CONFIG, CommandLine, succeed

ROOT = Path(__file__).parents[2]
PAIR = "{source: a.en, target: a.de}"
FINE_TUNING = f"""\
run_dir: tuned
data:
  source_lang: en
  target_lang: de
  train: [{PAIR}]
  valid: [{PAIR}]
  filters: {{max_tokens: 60}}
model: {{init_from: run, dropout: 0.2}}
"""


@pytest.fixture
def mtrain_here(warm: WarmCommandLine) -> WarmCommandLine:
    """The command line, beside a configuration."""
    (warm.folder / "my.yaml").write_text(TINY_CONFIG)
    return warm


def test_a_configuration_is_printed_without_its_defaults(mtrain_here: WarmCommandLine) -> None:
    folder = mtrain_here.folder
    with_defaults = dump_config(load_config(folder / "my.yaml"))
    (folder / "whole.yaml").write_text(with_defaults)
    said = succeed(mtrain_here, "config", "whole.yaml").out
    assert said.startswith("# ")
    assert said.count("\n") < with_defaults.count("\n") / 2
    assert "beam_size: 3" in said
    assert "length_penalty" not in said
    (folder / "printed.yaml").write_text(said)
    assert load_config(folder / "printed.yaml") == load_config(folder / "my.yaml")


def test_overrides_are_applied(mtrain_here: WarmCommandLine) -> None:
    said = succeed(mtrain_here, "config", "my.yaml", "--set", "decoding.beam_size=5",
                   "--set", "seed=7").out  # fmt: skip
    assert "seed: 7" in said
    assert "decoding" not in said  # 5 is the default


def test_what_is_taken_over_from_another_run_is_printed(
    mtrain_here: WarmCommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = mtrain_here.folder
    monkeypatch.chdir(folder)
    run = folder / "run"
    (run / "tokenizer").mkdir(parents=True)
    (run / "tokenizer" / "shared.model").touch()
    (run / "config.yaml").write_text(dump_config(load_config(folder / "my.yaml")))
    (folder / "tuned.yaml").write_text(FINE_TUNING)
    said = succeed(mtrain_here, "config", "tuned.yaml").out
    for line in ("d_model: 64", "dropout: 0.2", "path: run/tokenizer/shared.model"):
        assert f"\n  {line}\n" in said
    (folder / "printed.yaml").write_text(said)
    assert load_config(folder / "printed.yaml") == load_config(folder / "tuned.yaml")


def test_the_reference_is_the_file(mtrain: CommandLine) -> None:
    said = succeed(mtrain, "config", "--reference").out
    assert said == (ROOT / "configs" / "REFERENCE.md").read_text("utf-8")


def test_the_schema_is_json(warm: WarmCommandLine) -> None:
    schema = json.loads(succeed(warm, "config", "--schema").out)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["run_dir", "data"]
    assert "run_dir" in schema["properties"]


ONE_OF = ("config takes either a configuration, or --schema, or --reference", "type one of: mtrain")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), ONE_OF),
        (("--schema", "--reference"), ONE_OF),
        (("my.yaml", "--schema"), ONE_OF),
        (("my.yaml", "--reference"), ONE_OF),
        (("--schema", "--set", "seed=2"), ("--set replaces", "mtrain config my.yaml --set seed=2")),
        (("no.yaml",), ("no.yaml: there is no such configuration file",)),
        (("run",), ("run: Is a directory",)),
        (("my.yaml", "--set", "seed"), ("--set seed: this is not key=value",)),
        (("my.yaml", "--set", "sed=2"), ("--set sed: unknown key sed; did you mean seed?",)),
        (("my.yaml", "--set", "device=tpu"), ("--set device", "'tpu'")),
    ],
    ids=" ".join,
)
def test_bad_requests_are_refused(
    arguments: tuple[str, ...], words: tuple[str, ...], mtrain_here: WarmCommandLine
) -> None:
    (mtrain_here.folder / "run").mkdir()
    refused(mtrain_here("config", *arguments), *words)

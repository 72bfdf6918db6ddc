"""What a configuration takes over from the run that it starts from, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest

from mtrain.config import Config, load_config
from mtrain.config.base_layers import every_second
from mtrain.config.compare import without_defaults
from mtrain.config.load import dump_config, dump_tree
from mtrain.config.model import BaseRun, TransformerConfig
from mtrain.config.tokenizer import SidePaths
from tests.unit.config.test_load import SMALLEST, fail, load

BASE = """
seed: 7
tokenizer: {vocab_size: 500, normalization: nfkc, symbols: [<old>]}
model: {d_model: 64, num_heads: 8, dropout: 0.3, positions: rotary}
training: {max_updates: 5}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A run folder that has its configuration and its tokenizer."""
    run = tmp_path / "base"
    (run / "tokenizer").mkdir(parents=True)
    (run / "tokenizer" / "shared.model").write_bytes(b"")
    (run / "config.yaml").write_text(dump_config(load(tmp_path, SMALLEST + BASE)))
    return run


def transformer(config: Config) -> TransformerConfig:
    assert isinstance(config.model, TransformerConfig)
    return config.model


def test_model_and_tokenizer_are_taken_over_and_nothing_else(base: Path, tmp_path: Path) -> None:
    config = load(tmp_path, SMALLEST + "model: {init_from: base, dropout: 0.2}")
    model = transformer(config)
    assert (model.d_model, model.num_heads, model.positions) == (64, 8, "rotary")
    assert model.dropout == 0.2
    assert model.init_from == Path("base")
    assert model.base == BaseRun(run=Path("base"))
    assert config.tokenizer.path == Path("base/tokenizer/shared.model")
    assert (config.tokenizer.vocab_size, config.tokenizer.normalization) == (500, "nfkc")
    assert config.tokenizer.symbols == ()  # the model has them
    assert config.seed == 1
    assert config.training.max_updates == 3000
    assert load(tmp_path, dump_config(config)) == config


@pytest.mark.parametrize(
    "text",
    [
        "model: {init_from: base}",
        "model: {init_from: {run: base, parts: [encoder]}, d_model: 256}",  # back to the default
        "model: {init_from: base}\ntokenizer: {vocab_size: 8000}",  # one of its own, by default
    ],
)
def test_without_defaults_it_takes_over_nothing_else(text: str, base: Path, tmp_path: Path) -> None:
    config = load(tmp_path, SMALLEST + text)
    assert load(tmp_path, dump_tree(without_defaults(config))) == config


def test_a_tokenizer_a_side_is_taken_over(base: Path, tmp_path: Path) -> None:
    (base / "tokenizer" / "shared.model").rename(base / "tokenizer" / "source.model")
    config = load(tmp_path, SMALLEST + "model: {init_from: {run: base, parts: [encoder]}}")
    folder = Path("base/tokenizer")
    assert config.tokenizer.path == SidePaths(
        source=folder / "source.model", target=folder / "target.model"
    )
    assert not config.shares_vocabulary
    assert config.model.base == BaseRun(run=Path("base"), parts=("encoder",))


def test_symbols_are_appended_to_what_is_taken_over(base: Path, tmp_path: Path) -> None:
    text = SMALLEST + "model: {init_from: base}\ntokenizer: {symbols: [<new>]}"
    config = load(tmp_path, text)
    assert config.tokenizer.path == Path("base/tokenizer/shared.model")
    assert config.tokenizer.symbols == ("<new>",)
    prefixed = load(tmp_path, text.replace("symbols: [<new>]", "target_prefix: <old>"))
    assert prefixed.tokenizer == config.tokenizer.model_copy(
        update={"symbols": (), "target_prefix": "<old>"}
    )


def test_a_tokenizer_json_is_taken_over(base: Path, tmp_path: Path) -> None:
    """Its kind has no subword sampling; its mark before every text may be <s>."""
    (base / "tokenizer" / "shared.model").rename(base / "tokenizer" / "shared.json")
    text = SMALLEST + "model: {init_from: base}\ntokenizer: {source_prefix: <s>}"
    config = load(tmp_path, text)
    assert config.tokenizer.path == Path("base/tokenizer/shared.json")
    assert config.tokenizer.source_prefix == "<s>"
    [message] = fail(tmp_path, text, "training.subword_sampling=0.1")
    assert "subword_sampling needs a SentencePiece model" in message
    [message] = fail(tmp_path, text, "export_to=[ctranslate2]")
    assert "cannot hold a model with tokenizer.path: base/tokenizer/shared.json" in message
    (base / "tokenizer" / "shared.json").rename(base / "tokenizer" / "source.json")
    paths = load(tmp_path, SMALLEST + "model: {init_from: base}").tokenizer.path
    folder = Path("base/tokenizer")
    assert paths == SidePaths(source=folder / "source.json", target=folder / "target.model")


def test_a_tokenizer_of_its_own_is_left_alone(base: Path, tmp_path: Path) -> None:
    text = SMALLEST + "model: {init_from: base}\ntokenizer: {vocab_size: 400}"
    config = load(tmp_path, text)
    assert config.tokenizer.path is None
    assert (config.tokenizer.vocab_size, config.tokenizer.normalization) == (400, "identity")


def test_an_override_names_the_base_as_well(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BASE", str(base))
    config = load(tmp_path, SMALLEST, "model.init_from=$BASE", "model.d_model=32")
    assert (transformer(config).d_model, transformer(config).num_heads) == (32, 8)
    assert config.tokenizer.path == base / "tokenizer" / "shared.model"
    assert fail(tmp_path, SMALLEST, "model.init_from=none")[0].startswith(
        "--set model.init_from: model.init_from: none: there is no such run folder (looked in "
    )


def test_a_dollar_in_the_path_of_the_base_is_expanded_once(base: Path, tmp_path: Path) -> None:
    base.rename(tmp_path / "$x")
    config = load(tmp_path, SMALLEST + "model: {init_from: $$x}")
    assert config.model.base == BaseRun.model_construct(run=Path("$x"))
    assert config.tokenizer.path == Path("$x/tokenizer/shared.model")
    assert load(tmp_path, dump_config(config)) == config


def test_a_configuration_of_a_run_takes_nothing_over(base: Path, tmp_path: Path) -> None:
    config = load(tmp_path, SMALLEST + "model: {init_from: base}")
    written = tmp_path / "written.yaml"
    written.write_text(dump_config(config))
    shutil.rmtree(base)
    assert load_config(written, is_of_run=True) == config


def test_a_run_that_has_begun_knows_what_it_took_over(base: Path, tmp_path: Path) -> None:
    text = SMALLEST + "model: {init_from: base}"
    config = load(tmp_path, text)
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(dump_config(config))
    shutil.rmtree(base)
    assert load(tmp_path, text) == config
    other = fail(tmp_path, text.replace("init_from: base", "init_from: base2"))
    assert "there is no such run folder" in other[0]


@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("init_from: none", "8: model.init_from: none: there is no such run folder (looked in "),
        ("init_from: {run: none}", "8: model.init_from: none: there is no such run folder"),
        ("init_from: config.yaml", "8: model.init_from: config.yaml: this is a file, the folder"),
        ("init_from: empty", "8: model.init_from: empty: this folder is no run\ngive the run_dir"),
        ("init_from: hub", "8: model.init_from: hub: this is a Hugging Face model, not a run\n"
                           "import it first: mtrain import hub RUN; then name RUN here"),
        ("init_from: base\n  type: rnn", "9: model.type: rnn cannot start from base, whose "
                                         "model.type is transformer\nleave out model.type"),
        ("init_from: 3", "8: model.init_from: input is not a valid path"),
        ("init_from: [base]", "8: model.init_from: input is not a valid path"),
        ("init_from: $NO_SUCH", "8: model.init_from: $NO_SUCH: the environment has no variable"),
        ("init_from: {parts: [encoder]}", "8: model.init_from.run is missing"),
        ("init_from: {run: base, part: []}", "8: unknown key model.init_from.part; did you mean"),
        ("init_from: {run: base, parts: []}", "8: model.init_from.parts: tuple should have at"),
        ("init_from: {run: base, parts: [all]}", "8: model.init_from.parts.0: input should be "
                                                 "'encoder', 'decoder' or 'embeddings'"),
        ("init_from: {run: base, layers: half}", "8: model.init_from.layers: input should be 'all' "
                                                 "or 'every_second'"),
        ("init_from: base\n  num_heads: 5", "7: model: num_heads 5 does not divide d_model 64"),
    ],
)  # fmt: skip
def test_what_is_no_base_is_refused_with_its_line(
    model: str, error: str, base: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "config.json").write_text(json.dumps({"model_type": "marian"}))
    assert "\n".join(fail(tmp_path, f"{SMALLEST}model:\n  {model}\n")).startswith(
        f"config.yaml:{error}"
    )


BERT_BASE = """
tokenizer: {vocab_size: 500}
model: {type: bert, encoder_layers: 4, d_model: 64, dropout: 0.3, norm: pre}
training: {objective: masked_lm}
"""


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A run folder of a BERT."""
    run = tmp_path / "bert"
    (run / "tokenizer").mkdir(parents=True)
    (run / "tokenizer" / "shared.model").write_bytes(b"")
    (run / "config.yaml").write_text(dump_config(load(tmp_path, SMALLEST + BERT_BASE)))
    return run


@pytest.mark.parametrize(
    ("own", "layers"),
    [
        ("init_from: bert", (4, 4)),
        ("type: transformer, init_from: bert, decoder_layers: 2", (4, 2)),
        ("init_from: {run: bert, parts: [encoder, embeddings]}", (4, 3)),
    ],
)
def test_a_transformer_takes_over_what_it_shares_with_a_bert(
    own: str, layers: tuple[int, int], bert: Path, tmp_path: Path
) -> None:
    model = transformer(load(tmp_path, SMALLEST + f"model: {{{own}}}"))
    assert (model.encoder_layers, model.decoder_layers) == layers
    assert (model.d_model, model.dropout, model.activation) == (64, 0.3, "gelu")
    assert (model.norm, model.positions, model.embedding_norm) == ("pre", "learned", True)
    assert model.tie_embeddings == "auto"


def test_a_bert_that_starts_from_a_bert_stays_one(bert: Path, tmp_path: Path) -> None:
    text = "model: {init_from: bert}\ntraining: {objective: masked_lm}"
    assert load(tmp_path, SMALLEST + text).model.type == "bert"


def test_no_other_architecture_starts_from_a_bert(bert: Path, tmp_path: Path) -> None:
    line, *_ = fail(tmp_path, SMALLEST + "model: {type: rnn, init_from: bert}")
    assert "type: rnn cannot start from bert" in line


def test_a_bert_that_starts_from_a_bert_needs_its_objective(bert: Path, tmp_path: Path) -> None:
    line, *_, hint = fail(tmp_path, SMALLEST + "model: {type: bert, init_from: bert}")
    assert "model.type: bert needs training.objective: masked_lm" in line
    assert "add training: {objective: masked_lm}" in hint


def halved(own: str, base: str) -> str:
    return f"model: {{init_from: {{run: {base}, layers: every_second}}{own}}}"


@pytest.mark.parametrize(
    ("own", "problem", "hint"),
    [
        (", decoder_layers: 1",
         "model.decoder_layers is 1, neither half of the 6 layers of base nor all",
         "set model.decoder_layers: 3, half of the run's, or 6, all of them"),
        (", encoder_layers: 1",
         "model.encoder_layers is 1, neither half of the 3 layers of base nor all",
         "set model.encoder_layers: 3, all of them; or set model.init_from.layers: all"),
        ("", "no side has half as many layers as base",
         "set model.decoder_layers: 3; or set model.init_from.layers: all"),
    ],
)  # fmt: skip
def test_layers_that_cannot_be_halved_are_refused_with_the_numbers_that_can(
    own: str, problem: str, hint: str, base: Path, tmp_path: Path
) -> None:
    deep = BASE.replace("num_heads: 8", "num_heads: 8, decoder_layers: 6")
    (base / "config.yaml").write_text(dump_config(load(tmp_path, SMALLEST + deep)))
    told = fail(tmp_path, SMALLEST + halved(own, "base"))
    assert told[0] == f"config.yaml:7: model.init_from.layers: every_second: {problem}"
    assert hint in told[1]
    config = load(tmp_path, SMALLEST + halved(", decoder_layers: 3", "base"))
    assert config.model.base == BaseRun(run=Path("base"), layers="every_second")
    assert load(tmp_path, dump_config(config)) == config


def test_a_run_with_half_the_layers_that_has_begun_needs_its_base_no_more(
    bert: Path, tmp_path: Path
) -> None:
    """A decoder may start from every second layer of a BERT too."""
    config = load(tmp_path, SMALLEST + halved(", decoder_layers: 2", "bert"))
    assert (transformer(config).encoder_layers, transformer(config).decoder_layers) == (4, 2)
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(dump_config(config))
    shutil.rmtree(bert)
    assert load(tmp_path, SMALLEST + halved(", decoder_layers: 2", "bert")) == config


def test_layers_of_an_rnn_are_not_halved(base: Path, tmp_path: Path) -> None:
    rnn = SMALLEST + "model: {type: rnn, encoder_layers: 2}"
    (base / "config.yaml").write_text(dump_config(load(tmp_path, rnn)))
    told = fail(tmp_path, SMALLEST + halved(", encoder_layers: 1", "base"))
    assert "the layers of an rnn read states of different widths" in told[0]


def test_every_second_layer_has_the_first_and_the_last() -> None:
    """The lists of DistilBERT's code and of Shleifer and Rush 2020."""
    assert every_second(12) == [0, 2, 4, 7, 9, 11]
    assert every_second(6) == [0, 2, 5]
    assert every_second(2) == [0]

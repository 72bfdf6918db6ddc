"""From YAML to a configuration, or to every error at once with its line and the nearest key."""

from pathlib import Path
from typing import Any

import pytest

from mtrain.config import Config, load_config, parse_overrides
from mtrain.config.compare import changed_keys, describe
from mtrain.config.corpora import Corpus
from mtrain.config.load import dump_config
from mtrain.errors import EXIT_USER_ERROR, UserError

SMALLEST = """\
run_dir: runs/a
data:
  source_lang: en
  target_lang: no
  train: [{source: a.en, target: a.no}]
  valid: [{source: b.en, target: b.no}]
"""  # whatever is added begins on line 7


def load(folder: Path, text: str, *overrides: str) -> Config:
    path = folder / "config.yaml"
    path.write_bytes(text.encode())
    return load_config(path, overrides)


def fail(folder: Path, text: str, *overrides: str) -> list[str]:
    """Return the lines of the error that a configuration has to give, without the folder."""
    with pytest.raises(UserError) as caught:
        load(folder, text, *overrides)
    assert caught.value.exit_code == EXIT_USER_ERROR
    return str(caught.value).replace(f"{folder}/", "").split("\n")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("modle: {}", "7: unknown key modle; did you mean model?"),
        ("training:\n  seed: 1\n  learning_rat: 1",
         "9: unknown key training.learning_rat; did you mean learning_rate?"),
        ("decoding: {zebra: 1}",
         "7: unknown key decoding.zebra; known here: engine, precision, "
         "source_lang, target_lang, method, beam_size, length_penalty, length_norm, "
         "coverage_penalty, alignment_layer, alignment_head, "
         "repetition_guard, n_best, "
         "max_length_ratio, temperature, top_k, top_p, batch_tokens, buffer_lines"),
        ("model: {type: decoder_only, source_loss: true}", "7: model: source_loss needs"),
        ("model: {type: decoder_only, source_attention: causal, source_loss: true}\n"
         "tokenizer: {shared: false}", "1: model.source_loss needs one vocabulary"),
        ("model: {type: rnn, attention: dot}", "7: model: attention: dot compares states of one"),
        ("model: {type: rnn, query: bottom}", "7: model: query: bottom serves the layers above"),
        ("model: {type: rnn, input_feeding: true}", "7: model: input_feeding needs attention"),
        ("model: {type: rnn, bidirectional_layers: 2}", "7: model: bidirectional_layers 2 is more"),
        ("model: {type: rnn, residual: true, encoder_layers: 3, bidirectional_layers: 2}",
         "7: model: residual: the first layer that reads one way"),
        ("model: {positions: rotary, d_model: 36, num_heads: 12}", "7: model: d_model 36 over"),
        ("model: {type: transfomer}", "7: model.type: there is no transfomer; did you mean transf"),
        (
            "model: {positions: rotary}\nexport_to: [ctranslate2, huggingface]",
            "8: export_to: huggingface cannot hold a model with model.positions: rotary",
        ),
        ("model: {encoder_attention: {type: block_sparse}, max_positions: 600}\n"
         "export_to: [huggingface]", "8: export_to: huggingface cannot hold a model with "
         "model.encoder_attention: block_sparse"),
        ("model: {type: bert, max_positions: 600, encoder_attention: "
         "{type: block_sparse, block_size: 60, random_blocks: 0}}\nexport_to: [huggingface]",
         "8: export_to: huggingface cannot hold a model with "
         "model.encoder_attention.random_blocks: 0 (BigBird has 1 or more)"),
        ("model: {encoder_attention: {type: block_sparse}}",
         "7: model: encoder_attention: a block attends to 8 (window_blocks 3, global_blocks 2, "
         "random_blocks 3), and the longest text, max_positions 512, has only 8 of 64 tokens: use "
         "fewer, a larger max_positions, or type: full"),
        ("model: {encoder_attention: {type: block_sparse, block_size: 1024}}",
         "7: model: encoder_attention.block_size 1024 is more than max_positions 512"),
        ("model: {encoder_attention: {type: block_sparse, window_blocks: 4}}",
         "7: model.encoder_attention: window_blocks 4 is even: as many stand before a block as"),
        ("model: {encoder_attention: {block_size: 32}}",
         "7: model.encoder_attention: type: full has no blocks, and block_size would change"),
        ("export_to: [onnx]", "7: export_to.0: input should be 'ctranslate2' or 'huggingface'"),
        ("model: {type: 3}", "7: model.type: there is no 3; known here: transformer, rnn, decoder"),
        ("decoding: {engine: ctranslate2, method: sample}", "7: decoding: method: sample is"),
        ("decoding: {engine: ctranslate2-int8, length_norm: gnmt}", "7: decoding: length_norm"),
        ("decoding: {engine: ctranslate2, coverage_penalty: 0.1}", "7: decoding: coverage_penalty"),
        ("model: {<<: {d_modle: 8}}", "7: unknown key model.d_modle; did you mean d_model?"),
        ("model: {type: rnn, encoder_attention: {type: block_sparse}}",
         "7: unknown key model.encoder_attention; it is a key of transformer and bert models"),
        ("2016: x", "7: 2016: keys should be strings, not 2016"),
        ("training:\n  max_updates: soon",
         "8: training.max_updates: input should be a valid integer"),
        ("training:\n  max_updates: 1.5",
         "8: training.max_updates: input should be a valid integer, got a number with a "
         "fractional part, not 1.5"),
        ("training:\n  learning_rate: [1]",
         "8: training.learning_rate: input should be a valid number, not [1]"),
        ("training:\n  tensorboard: maybe",
         "8: training.tensorboard: input should be a valid boolean"),
        ("model: 3", "7: model is a section of keys, not 3"),
        ("model:", "7: model is a section of keys, not None"),
        ("model: [d_model]", "7: model is a section of keys, not ['d_model']"),
        ("data_dir: 3", "7: data_dir: input is not a valid path"),
        ("training:\n  max_updates: 0",
         "8: training.max_updates: input should be greater than 0, not 0"),
        ("training:\n  label_smoothing: 1",
         "8: training.label_smoothing: input should be less than 1, not 1"),
        ("training:\n  learning_rate: nan",
         "8: training.learning_rate: input should be a finite number, not 'nan'"),
        ("training:\n  learning_rate: inf",
         "8: training.learning_rate: input should be a finite number, not 'inf'"),
        ("training:\n  learning_rate: true", "8: training.learning_rate: takes no true"),
        ("training: {freeze: encoder*}", "7: training.freeze: input should be a valid tuple, not"),
        ("training: {learning_rate_scale: {enc.*: -1}}",
         "7: training.learning_rate_scale.enc.*: input should be greater than or equal to 0, not"),
        ("tokenizer: {symbols: [<x>, a b]}", "7: tokenizer.symbols.1: string should match pattern"),
        ("seed: false", "7: seed: takes no false"),
        ("seed: 18446744073709551616", "7: seed: input should be less than 9223372036854775808"),
        ("tokenizer: {vocab_size: 1000000000}",
         "7: tokenizer.vocab_size: input should be less than or equal to 1000000, not"),
        ("training: {batch_tokens: 99999999999999999999}",
         "7: training.batch_tokens: input should be less than or equal to 2147483647, not"),
        ("training: {max_minutes: 1e300}",
         "7: training.max_minutes: input should be less than or equal to 1000000000, not 1e+300"),
        ("decoding: {beam_size: 1001}", "7: decoding.beam_size: input should be less than or"),
        ("decoding: {n_best: 1001}", "7: decoding.n_best: input should be less than or equal to"),
        ("decoding: {length_penalty: 99}", "7: decoding.length_penalty: input should be less"),
        ("decoding: {max_length_ratio: 1e300}", "7: decoding.max_length_ratio: input should be"),
        ("decoding: {temperature: 1e-300}", "7: decoding.temperature: input should be greater"),
        ("decoding: {top_p: 1e-300}", "7: decoding.top_p: input should be greater than or equal"),
        ("training:\n  schedule: cosin",
         "8: training.schedule: input should be 'linear', 'cosine' or 'inverse_sqrt', not 'cosin'"),
        ("training:\n  adam_betas: [0.9]", "8: training.adam_betas.1 is missing"),
        ("tokenizer:\n  path: {source: x.model}", "8: tokenizer.path.target is missing"),
        ("tokenizer:\n  path: {source: x, targte: y}",
         "8: unknown key tokenizer.path.targte; did you mean target?"),
        ("tokenizer:\n  path: 3", "8: tokenizer.path: input is not a valid path"),
        ("tokenizer: {symbols: [<pad>]}", "7: tokenizer.symbols.0: <pad> is a mark or a byte of"),
        ("tokenizer: {symbols: [<0x41>]}", "7: tokenizer.symbols.0: <0x41> is a mark or a byte of"),
        ("model:\n  d_model: 64\n  num_heads: 5", "7: model: num_heads 5 does not divide d_model"),
        ("model:\n  d_model: 65\n  num_heads: 5", "7: model: d_model 65 is odd"),
        ("model: {max_positions: 100}",
         "1: data.filters.max_tokens 250 is over model.max_positions 100"),
        ("model: {tie_embeddings: all}\ntokenizer: {shared: false}",
         "1: model.tie_embeddings: all needs one vocabulary"),
        ("training: {average_checkpoints: 5}",
         "7: training: average_checkpoints 5 needs as many kept: set keep_last to 5 or more"),
        ("decoding: {n_best: 6}", "7: decoding: n_best 6 is more than beam_size 5 can hold"),
        ("data_dir: runs/a", "1: data_dir runs/a holds run_dir runs/a"),
        ("data_dir: runs", "1: data_dir runs holds run_dir runs/a"),
        ("data_dir: .", "1: data_dir . holds run_dir runs/a"),
        ("seed: 1\nmodel: {}\nseed: 2", "9: seed stands here a second time"),
        ("model:\n  dropout: 0.1\n  d_model: 8\n  dropout: 0.2",
         "10: model.dropout stands here a second time"),
        ("model: {d_model: 8", "7: not YAML: expected ',' or '}', but got '<stream end>'"),
        ("model:\n\td_model: 8", "8: not YAML: found character '\\t'"),
        ("seed: 1\n---\nseed: 2", "8: not YAML: but found another document"),
        ("# bell \x07", "7: not YAML: character U+0007"),
        ("data_dir: {{ folder }}", "7: not YAML: found unhashable key"),
        ("seed: !!python/object:os.system x", "7: not YAML: could not determine a constructor"),
        ("seed: @1", "7: not YAML: found character '@' that cannot start any token"),
        ("seed: !!bool maybe", " not YAML: 'maybe'"),
        ("seed: !!timestamp x", " not YAML: "),
        ("model: {norm_epsilon: 1e-3}\nexport_to: [huggingface]",
         "8: export_to: huggingface cannot hold a model with model.norm_epsilon"),
        ("model: {norm_type: rms, embedding_norm: true}\nexport_to: [ctranslate2]",
         "8: export_to: ctranslate2 cannot hold a model with model.embedding_norm and"),
    ],
)  # fmt: skip
def test_an_error_names_its_line_and_its_key(text: str, error: str, tmp_path: Path) -> None:
    assert any(line.startswith(f"config.yaml:{error}") for line in fail(tmp_path, SMALLEST + text))


@pytest.mark.parametrize(
    ("old", "new", "errors"),
    [
        ("run_dir: runs/a\n", "", ["1: run_dir is missing"]),
        ("  target_lang: no\n", "", 
         ["4: data.train: target_lang is missing: name it in data, or for each corpus",
          "5: data.valid: target_lang is missing: name it in data, or for each corpus"]),
        ("target_lang: no", "target_lang: 47",
         ["4: data.target_lang: input should be a valid string, not 47"]),
        ("[{source: a.en, target: a.no}]", "[]",
         ["5: data.train: names no corpus"]),
        ("[{source: a.en, target: a.no}]", "{source: a.en, target: a.no}",
         ["5: data.train: input should be a valid list"]),
        ("[{source: a.en, target: a.no}]", "[a.en]",
         ["5: data.train.0 is a section of keys, not 'a.en'"]),
        ("[{source: a.en, target: a.no}]", "\n  - {path: x.tsv}\n  - source: a.en\n    sauce: b\n",
         ["7: data.train.1.target is missing",
          "8: unknown key data.train.1.sauce; did you mean source?"]),
        ("{source: a.en, target: a.no}", "{path: x.tsv, field: [0, 1]}",
         ["5: unknown key data.train.0.field; did you mean fields?"]),
        ("{source: a.en, target: a.no}", "{path: x.tsv, fields: [0]}",
         ["5: data.train.0.fields.1 is missing"]),
        ("{source: a.en, target: a.no}", "{hub: x, splt: test}",
         ["5: unknown key data.train.0.splt; did you mean split?"]),
        ("{source: a.en, target: a.no}", "{source: a.en, target: a.no, name: ../x}",
         ["5: data.train.0.name: string should match pattern"]),
        ("  valid:", "  test: [{path: x.tsv}, {path: y.tsv}]\n  valid:",
         ["2: data: two test sets are called test: give each its own `name`"]),
        ("  valid:", "  test: [{path: x.tsv, name: valid}]\n  valid:",
         ["2: data: a test set cannot be called valid"]),
        ("  valid:", "  watch: [{path: x.tsv}, {path: y.tsv}]\n  valid:",
         ["2: data: two watch sets are called watch: give each its own `name`"]),
        ("  valid:", "  watch: [{path: x.tsv}]\n  test: [{path: y.tsv, name: watch}]\n  valid:",
         ["2: data: a watch and a test set are called watch: give each its own `name`"]),
        ("  valid:", "  watch: [{path: x.tsv, name: valid}]\n  valid:",
         ["2: data: a watch set cannot be called valid"]),
        ("  valid:", "  protect: [tags, placeholder]\n  valid:",
         ["6: data.protect.1: there is no placeholder; did you mean placeholders?"]),
        ("  valid:", "  protect:\n    - tags\n    - zebra\n    - [urls]\n  valid:",
         ["8: data.protect.1: there is no zebra; known here: placeholders, tags, urls, emails, "
          "numbers, or a pattern: {regex: ", "9: data.protect.2: there is no ['urls']; known"]),
        ("  valid:", "  protect:\n    - {regex: 'PN-('}\n    - {regex: 'a*'}\n  valid:",
         ["7: data.protect.0.regex: PN-(: not a regular expression: missing ), unterminated",
          "8: data.protect.1.regex: a*: matches the empty string"]),
        ("  valid:", "  protect: [{regex: '\\b'}, {regxe: a}]\n  valid:",
         ["6: data.protect.0.regex: \\b: matches the empty string",
          "6: data.protect.1.regex is missing",
          "6: unknown key data.protect.1.regxe; did you mean regex?"]),
        ("  valid:", "  protect: [tags, {regex: a}, tags]\n  valid:",
         ["6: data.protect: tags is listed twice: keep one"]),
        ("  valid:", "  protect: [{regex: a}, {regex: a}]\n  valid:",
         ["6: data.protect: regex a is listed twice: keep one"]),
    ],
)  # fmt: skip
def test_an_error_in_the_data_names_line_corpus_and_key(
    old: str, new: str, errors: list[str], tmp_path: Path
) -> None:
    assert SMALLEST.count(old) == 1
    said = fail(tmp_path, SMALLEST.replace(old, new))
    assert len(said) == len(errors)
    for line, error in zip(said, errors, strict=True):
        assert line.startswith(f"config.yaml:{error}")


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", "config.yaml: run_dir is missing"),
        (b"# nothing\n", "config.yaml: run_dir is missing"),
        (b"- a\n- b\n", "config.yaml: a configuration is `key: value` lines, this is not"),
        (b"translate please", "config.yaml: a configuration is `key: value` lines, this is not"),
        (b"seed: \xff", "config.yaml: not UTF-8 text, from byte 6 on"),
        (b"\x00\x01\x02", "config.yaml:1: not YAML: character U+0000"),
        (b"seed: !!int x", "config.yaml: not YAML: invalid literal"),
        (b"model: &a {b: *a}", "config.yaml: not YAML: maximum recursion depth"),
    ],
)
def test_what_is_no_configuration_at_all_is_named(
    content: bytes, error: str, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_config(tmp_path / "config.yaml")
    assert str(caught.value).replace(f"{tmp_path}/", "").startswith(error)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.yaml: there is no such configuration file"):
        load_config(tmp_path / "nowhere.yaml")


def test_all_errors_are_told_at_once(tmp_path: Path) -> None:
    text = """\
data:
  source_lang: en
  train: [{source: a.en}]
  valid: []
  filtres: {}
tokenizer: {vocab_size: 10}
model: {num_heads: 3}
training:
  max_updates: many
  warmup: 5
"""
    assert [line.split(";")[0].split(", not")[0] for line in sorted(fail(tmp_path, text))] == [
        "config.yaml:10: unknown key training.warmup",
        "config.yaml:1: run_dir is missing",
        "config.yaml:3: data.train.0.target is missing",
        "config.yaml:4: data.valid: names no corpus",
        "config.yaml:5: unknown key data.filtres",
        "config.yaml:6: tokenizer.vocab_size: input should be greater than or equal to 300",
        "config.yaml:7: model: num_heads 3 does not divide d_model 256",
        "config.yaml:9: training.max_updates: input should be a valid integer, "
        "unable to parse string as an integer",
    ]


@pytest.mark.parametrize(
    ("override", "error"),
    [
        ("training.max_updates", "--set training.max_updates: this is not key=value"),
        ("=3", "--set =3: this is not key=value"),
        ("seed=[1", "--set seed=[1: '[1' is not a YAML value"),
        ("seed=!!int x", "--set seed=!!int x: '!!int x' is not a YAML value"),
        ("training.max_update=3",
         "--set training.max_update: unknown key training.max_update; did you mean max_updates?"),
        ("trainig.max_updates=3",
         "--set trainig.max_updates: unknown key trainig; did you mean training?"),
        ("model.d_model=big",
         "--set model.d_model: model.d_model: input should be a valid integer"),
        ("model=big", "--set model: model is a section of keys, not 'big'"),
        ("seed.x=1", "--set seed.x: seed: input should be a valid integer"),
        ("run_dir.x=1", "--set run_dir.x: run_dir is a value, not a section"),
        ("data.train.1.source=x",
         "--set data.train.1.source: 1 is not one of the list's 1 items, from 0"),
        ("data.train.first.source=x",
         "--set data.train.first.source: first is not one of the list's 1 items, from 0"),
        ("data.train.-1=x", "--set data.train.-1: -1 is not one of the list's 1 items, from 0"),
        ("data.train.0.sauce=x",
         "--set data.train.0.sauce: unknown key data.train.0.sauce; did you mean source?"),
        ("data.train=[{source: x}]", "--set data.train: data.train.0.target is missing"),
        ("data=", "--set data: data is a section of keys, not None"),
    ],
)  # fmt: skip
def test_an_error_in_an_override_names_the_override(
    override: str, error: str, tmp_path: Path
) -> None:
    assert fail(tmp_path, SMALLEST, override)[0].startswith(error)


def paths(corpus: Corpus) -> dict[str, str]:
    """Return the files that a corpus names, by key."""
    found: dict[str, str] = corpus.model_dump(mode="json", include={"source", "target", "path"})
    return found


def test_a_tilde_is_the_home_folder_in_every_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    config = load(
        tmp_path,
        SMALLEST.replace("a.en", "~/a.en").replace("runs/a", "~/run"),
        "tokenizer.path=~/x.model",
        "data.test=[{path: ~/x.tsv}]",
        "data_dir=~nobody-here/x",
    )
    assert config.run_dir == Path("/home/me/run")
    assert paths(config.data.train[0]) == {"source": "/home/me/a.en", "target": "a.no"}
    assert config.tokenizer.path == Path("/home/me/x.model")
    assert paths(config.data.test[0]) == {"path": "/home/me/x.tsv"}
    assert config.data_dir == Path("~nobody-here/x")


def test_with_a_time_budget_updates_are_only_limited_if_asked(tmp_path: Path) -> None:
    assert load(tmp_path, SMALLEST).training.max_updates == 3000
    budget = "training.max_minutes=60"
    assert load(tmp_path, SMALLEST, budget).training.max_updates > 1_000_000_000
    assert load(tmp_path, SMALLEST, budget, "training.max_updates=9").training.max_updates == 9


def test_overrides_go_over_the_file_and_later_ones_over_earlier(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        SMALLEST + "training: {max_updates: 5, max_minutes: 3}\nmodel:\n",
        "training.max_updates=6",
        "training.max_updates=7",
        "training.max_minutes=",
        " model.d_model =64",
        "data.train.0.source=c.en",
        "data.test=[{path: x.tsv}]",
        "tokenizer.path={source: x.model, target: y.model}",
        "decoding.length_penalty=1e-1",
        "run_dir=a=b",
    )
    assert config.training.max_updates == 7
    assert config.training.max_minutes is None
    assert config.model.d_model == 64
    assert paths(config.data.train[0]) == {"source": "c.en", "target": "a.no"}
    assert len(config.data.test) == 1
    assert not config.shares_vocabulary
    assert config.decoding.length_penalty == 0.1
    assert config.run_dir == Path("a=b")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("", None),
        ("~", None),
        ("null", None),
        ("1", 1),
        ("-3", -3),
        ("010", 10),
        ("08", 8),
        ("1.5", 1.5),
        ("1e-3", 0.001),
        ("1.0e-3", 0.001),
        ("5E+2", 500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("1:30", "1:30"),
        ("0x1f", "0x1f"),
        ("2016-01-01", "2016-01-01"),
        ("'1e-3'", "1e-3"),
        ("[no, 1e-3]", ["no", 0.001]),
    ],
)
def test_plain_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    assert parse_overrides([f"a.b={text}"]) == [(("a", "b"), value)]


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter(tmp_path: Path) -> None:
    expected = load(tmp_path, SMALLEST)
    assert load(tmp_path, "\ufeff" + SMALLEST.replace("\n", "\r\n")) == expected
    assert expected.data.target_lang == "no"


FULL = """
data_dir: shared data
device: cpu
tokenizer: {path: {source: en.model, target: no.model}, symbols: [<2no>, "*", "no"]}
training:
  {max_minutes: 2.5, adam_betas: [0.9, 0.999], learning_rate: 1e-5, save_every: 7,
   freeze: ["*.weight", "&x"], learning_rate_scale: {"*": 0.5, "no": 2}}
model: {tie_embeddings: decoder}
decoding: {method: sample, top_p: 0.9}
"""
CORPORA = """\
  test:
  - {hub: books, config: de-en, split: 'train[:10%]', name: one}
  - {path: x.jsonl.gz, fields: [a.b, c], name: two}
  - {path: x.tsv, fields: [3, 0], name: three}
"""


@pytest.mark.parametrize("text", [SMALLEST, SMALLEST + FULL, SMALLEST + CORPORA + FULL])
def test_a_written_configuration_reads_as_it_was(text: str, tmp_path: Path) -> None:
    config = load(tmp_path, text)
    assert load(tmp_path, dump_config(config)) == config


ODD_WORDS = [
    "no", "Yes", "off", "true", "null", "~", "", " ", " a ", "1", "08", "010", "-1", "1.5", "1e5",
    "1e-3", ".5", "5.", ".inf", "nan", "0x1F", "0o17", "1_000", "1:30", "2016-01-01", "<<", "=",
    "a: b", "a #b", "# a", "- a", "@a", "`a", "%a", "!a", "&a", "*a", "|", ">", "{a", "[a", "'",
    '"', "\\", "a\nb", "\ta", "grün", "日本語", "\u2028", "\x07", "\U0001f600", "x" * 500,
]  # fmt: skip


@pytest.mark.parametrize("word", ODD_WORDS)
def test_any_text_survives_being_written_and_read(word: str, tmp_path: Path) -> None:
    config = load(tmp_path, SMALLEST)
    data = config.data.model_dump() | {
        "train": [{"hub": word, "config": word}, {"path": f"{word}.tsv", "fields": [word, word]}],
    }
    odd = Config.model_validate(config.model_dump() | {"data": data, "data_dir": f"x{word}"})
    assert load(tmp_path, dump_config(odd)) == odd


def test_changed_keys_are_told_with_both_values(tmp_path: Path) -> None:
    old = load(tmp_path, SMALLEST)
    assert changed_keys(old, load(tmp_path, SMALLEST), ()) == {}
    new = load(
        tmp_path,
        SMALLEST,
        "seed=2",
        "model.dropout=0.3",
        "tokenizer.path={source: a.model, target: b.model}",
        "data.filters.drop_overlap=false",
    )
    assert describe(changed_keys(old, new, ())).split("\n  ")[1:] == [
        "data.filters.drop_overlap: True -> False",
        "model.dropout: 0.1 -> 0.3",
        "seed: 1 -> 2",
        "tokenizer.path.source: None -> 'a.model'",
        "tokenizer.path.target: None -> 'b.model'",
    ]
    assert changed_keys(old, new, ("seed", "model.dropout", "tokenizer")) == {
        "data.filters.drop_overlap": (True, False)
    }
    assert "seed" in changed_keys(old, new, ("see", "data"))  # whole keys only


def test_a_bert_has_positions_for_both_sides_of_held_out_pairs(tmp_path: Path) -> None:
    text = """\
run_dir: run
data:
  train: [{text: train.en, lang: en}]
  valid: [{source: valid.en, target: valid.de, source_lang: en, target_lang: de}]
  filters: {max_tokens: 100}
model: {type: bert, max_positions: 150}
training: {objective: masked_lm}
"""
    assert any("twice, for both sides of a pair" in line for line in fail(tmp_path, text))
    assert load(tmp_path, text.replace("150", "200")).learns_from_text

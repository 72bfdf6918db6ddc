"""A BERT goes to `transformers` and comes back, and one that comes from there is trained on."""

import json
import random
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from tests.cli.warm import WarmCommandLine
from tests.conftest import succeed
from tests.contract.bert_layouts import LAYOUTS, WORDS

TEXT = """\
run_dir: run
device: cpu
data:
  train: [{text: train.txt, lang: en}]
  valid: [{text: valid.txt, lang: en}]
  filters: {drop_overlap: false, max_tokens: 30}
"""
TRAINING = """\
training:
  {objective: masked_lm, batch_tokens: 256, max_updates: 4, valid_every: 2, warmup_updates: 2}
"""
NEW = """\
tokenizer: {vocab_size: 310, type: unigram}
model:
  {type: bert, encoder_layers: 1, d_model: 16, num_heads: 2, ffn_dim: 24, max_positions: 40,
   activation: gelu_tanh, encoder_attention: {type: block_sparse, block_size: 2, random_blocks: 1}}
"""  # attention is full up to 12 tokens


TRANSLATION = """\
run_dir: translator
device: cpu
data:
  source_lang: en
  target_lang: de
  train: [{source: train.txt, target: train.txt}]
  valid: [{source: valid.txt, target: valid.txt}]
  filters: {drop_overlap: false, drop_identical: false, max_tokens: 30}
tokenizer: {symbols: [<2de>]}
model: {type: transformer, init_from: {run: imported, parts: [encoder, embeddings]}}
training: {batch_tokens: 256, max_updates: 2, valid_every: 2, warmup_updates: 2}
"""


@pytest.fixture
def texts(warm: WarmCommandLine) -> WarmCommandLine:
    """A folder with text in one language."""
    draw = random.Random(1)
    for name, count in (("train", 120), ("valid", 20)):
        lines = [" ".join(draw.choices(WORDS, k=draw.randint(2, 16))) for _ in range(count)]
        (warm.folder / f"{name}.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return warm


def test_a_block_sparse_bert_goes_to_transformers_and_comes_back(texts: WarmCommandLine) -> None:
    folder = texts.folder
    (folder / "bert.yaml").write_text(TEXT + NEW + TRAINING)
    succeed(texts, "prepare", "bert.yaml")
    succeed(texts, "train", "bert.yaml")
    said = succeed(texts, "export", "run", "out", "--to", "huggingface").err
    found = re.search(r"on (\d+) lines: ids are the same; hidden states differ by", said)
    assert found
    assert 0 < int(found[1]) < 20  # of 20, those that have full attention in both programs
    assert "masked tokens by" in said
    difference = "transformers computes what mtrain does for texts of up to 12 tokens: full atten"
    assert f"warning: {difference}" in said
    text = (folder / "out" / "README.md").read_text()
    assert ModelCard(text).data.pipeline_tag == "fill-mask"
    assert "perplexity of masked tokens" in text
    said = succeed(texts, "import", "out", "back", "--sample", "valid.txt").err
    assert found[0] in said
    assert f"warning: {difference}" in said
    (exported,) = (folder / "back" / "checkpoints").glob("*/model.safetensors")
    trained = [load_file(path) for path in (folder / "run" / "checkpoints").glob("*/model.*")]
    back = load_file(exported)
    assert any(all(weights[name].equal(back[name]) for name in back) for weights in trained)
    long = b"one two three four five six seven ten elf one two three four five six [MASK] ten\n"
    filled = [succeed(texts, "fill", run, stdin=long).out for run in ("run", "back")]
    assert filled[0] == filled[1]
    (folder / "long.txt").write_bytes(long)
    said = succeed(texts, "import", "out", "unchecked", "--sample", "long.txt").err
    assert "not checked: each line is empty, contains a mark, or has more than 12 tokens" in said
    other = "export", "run", "other", "--to", "huggingface", "--set"
    refused = texts(*other, "model.encoder_attention.window_blocks=1")
    assert "model.encoder_attention.window_blocks: 1 (BigBird has 3)" in refused.err
    refused = texts("export", "run", "other", "--to", "ctranslate2")
    assert "this is a bert model, which fills masked tokens" in refused.err


def test_a_bert_without_a_head_gets_one_by_training_and_a_translator_starts_from_it(
    texts: WarmCommandLine,
) -> None:
    folder = texts.folder
    (folder / "model").mkdir()
    LAYOUTS["headless"](folder / "model")
    said = succeed(texts, "import", "model", "imported").err
    assert "this model has no head that predicts masked tokens" in said
    assert "left out: the pooler" in said
    assert "hidden states differ by" in said
    for command in (("export", "imported", "out", "--to", "huggingface"), ("fill", "imported")):
        refused = texts(*command)
        assert refused.code == 2
        assert "imported without the head that predicts masked tokens" in refused.err
    shown = "attention", "imported", "-", "--no-pictures"
    assert "of 1 sentences" in succeed(texts, *shown, stdin=b"one two\n").err
    assert "does not translate" in texts("translate", "imported", "valid.txt").err
    tuned = TEXT + "model: {init_from: imported}\n" + TRAINING
    (folder / "tuned.yaml").write_text(tuned)
    succeed(texts, "prepare", "tuned.yaml")
    said = succeed(texts, "train", "tuned.yaml").err
    assert "initialised from imported (update 0): copied 100.0%" in said
    kept = Path("tokenizer") / "shared.json"
    assert (folder / "run" / kept).read_bytes() == (folder / "imported" / kept).read_bytes()
    (state, *_) = (folder / "run" / "checkpoints").glob("*/state.json")
    assert "lacks_head" not in json.loads(state.read_text())
    said = succeed(texts, "export", "run", "plain", "--to", "huggingface").err
    assert "on 20 lines: ids are the same; hidden states differ by" in said
    (folder / "translator.yaml").write_text(TRANSLATION)
    succeed(texts, "prepare", "translator.yaml")
    assert "initialised from imported" in succeed(texts, "train", "translator.yaml").err
    out = succeed(texts, "translate", "translator", stdin=b"one <2de> two\n\nten\n").out
    assert out.count("\n") == 3
    refused = texts("export", "translator", "out", "--to", "ctranslate2")
    assert "ctranslate2 cannot hold a model with tokenizer.path: " in refused.err
    sampling = texts("prepare", "translator.yaml", "--set", "training.subword_sampling=0.1")
    assert "subword_sampling needs a SentencePiece model" in sampling.err

"""Export of a BERT as a BertForMaskedLM or BigBirdForMaskedLM, with a tokenizer.json.

mtrain's BERT has no segments and no pooler: their weights are zeros.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtrain.config import Config
from mtrain.config.encoder_attention import EncoderAttention
from mtrain.config.model import BertConfig
from mtrain.console import warn
from mtrain.exchange.huggingface.bert_importing import POSITIONS, TYPES, WORDS
from mtrain.exchange.huggingface.bert_names import BERT, BERT_LAYOUTS
from mtrain.exchange.huggingface.files import read_json, write_json, write_tensors
from mtrain.exchange.huggingface.names import WRITTEN_ACTIVATIONS
from mtrain.exchange.huggingface.tokenizer_json import of_sentencepiece
from mtrain.models.bert import Bert
from mtrain.text.tokenizer import Tokenizer
from mtrain.text.tokenizer_model import read_content

KINDS = (("bert", "BertForMaskedLM"), ("big_bird", "BigBirdForMaskedLM"))  # full, block-sparse


def write_bert(folder: Path, model: Bert, config: Config, tokenizer: Tokenizer) -> None:
    """Write model.safetensors, its configuration, and the files of the tokenizer."""
    assert isinstance(config.model, BertConfig)
    if config.model.encoder_attention.is_sparse:
        warn(long_texts(config.model.encoder_attention))
    write_tensors(folder, _tensors(model, config.model))
    write_json(folder / "config.json", _model_config(config.model, tokenizer))
    if tokenizer.is_sentencepiece:
        content = read_content(tokenizer.path, "export --to huggingface")
        write_json(folder / "tokenizer.json", of_sentencepiece(tokenizer, content))
    else:
        (folder / "tokenizer.json").write_bytes(tokenizer.path.read_bytes())
    told = read_json(folder / "tokenizer.json")["added_tokens"]
    takes_blank = {token["content"]: token["lstrip"] for token in told}
    about = _tokenizer_config(config.model, tokenizer, takes_blank)
    write_json(folder / "tokenizer_config.json", about)


def long_texts(attention: EncoderAttention) -> str:
    """Return how BigBird of `transformers` computes long texts, which is not what mtrain does."""
    covered = attention.num_attended * attention.block_size
    theirs = covered + attention.random_blocks * attention.block_size
    return (
        f"transformers computes what mtrain does for texts of up to {covered:,} tokens: full "
        f"attention. It computes longer texts otherwise: up to {theirs:,} tokens, and once the "
        "loaded model has read a text so short, attention stays full; else each random block is "
        "the first block again"
    )


def _tensors(model: Bert, config: BertConfig) -> dict[str, Tensor]:
    weights = dict(model.named_parameters(remove_duplicate=False))
    tables = {
        WORDS: weights["source_embedding.weight"],
        POSITIONS: weights["source_positions.weight"],
        TYPES: torch.zeros(2, config.d_model),
    }
    tensors = {BERT.prefix + name: table for name, table in tables.items()}
    tensors[BERT.output_biases[0]] = weights["output.bias"]
    if config.encoder_attention.is_sparse:  # BigBird has a pooler that it does not use
        width = config.d_model
        tensors |= {"bert.pooler.weight": torch.zeros(width, width),
                    "bert.pooler.bias": torch.zeros(width)}  # fmt: skip
    below = [(ours, tuple(BERT.prefix + part for part in theirs))
             for ours, theirs in BERT.encoder_names(config.encoder_layers)]  # fmt: skip
    for ours, theirs in (*below, *BERT.head_names()):
        parts = weights[ours].chunk(len(theirs))
        tensors |= dict(zip(theirs, parts, strict=True))
    return tensors


def _model_config(config: BertConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    attention = config.encoder_attention
    kind, architecture = KINDS[attention.is_sparse]
    layout = BERT_LAYOUTS[kind]
    settings = config.model_dump() | {"activation": WRITTEN_ACTIVATIONS[config.activation]}
    return {
        "architectures": [architecture],
        "model_type": kind,
        "dtype": "float32",
        **{theirs: settings[ours] for ours, theirs in layout.keys.items()},
        **{theirs: getattr(attention, ours) for ours, theirs in layout.attention_keys.items()},
        "vocab_size": tokenizer.vocab_size,
        "type_vocab_size": 2,
        "is_decoder": False,
        "tie_word_embeddings": True,
        "pad_token_id": tokenizer.pad_id,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "sep_token_id": tokenizer.eos_id,
    }


def _tokenizer_config(
    config: BertConfig, tokenizer: Tokenizer, takes_blank: Mapping[str, bool]
) -> dict[str, Any]:
    """Return what the tokenizer's class and its marks are called.

    `takes_blank` tells of each token whether the blank before it belongs to it.
    """
    marks = tokenizer.written_marks
    mask = tokenizer.pieces([tokenizer.mask_id])[0]
    end, start = marks["eos_token"], marks["bos_token"]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **marks,
        "sep_token": end,
        "cls_token": start,
        "mask_token": {"__type": "AddedToken", "content": mask, "lstrip": takes_blank[mask],
                       "rstrip": False, "single_word": False, "normalized": False,
                       "special": True},
        "model_max_length": config.max_positions,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
    }  # fmt: skip

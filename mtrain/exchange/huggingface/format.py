"""Export of a Transformer in Hugging Face's layout, for `transformers`.

A pre-norm model becomes a Pegasus model, a post-norm model a Marian model. Both get Marian's
tokenizer: SentencePiece with a table from pieces to ids. A BERT becomes a BertForMaskedLM, a
block-sparse one a BigBirdForMaskedLM (`bert_format.py`).
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mtrain.config import Config
from mtrain.config.model import TransformerConfig
from mtrain.console import say
from mtrain.exchange.base import ExchangeFormat
from mtrain.exchange.comparison import Replay, Sample
from mtrain.exchange.huggingface.bert_format import write_bert
from mtrain.exchange.huggingface.files import write_json, write_tensors
from mtrain.exchange.huggingface.names import WRITTEN_ACTIVATIONS, stack_tensors
from mtrain.exchange.huggingface.replaying import (
    fill_with_transformers,
    translate_with_transformers,
)
from mtrain.exchange.masked_comparison import MaskedReplay, MaskedSample
from mtrain.models import Model
from mtrain.models.bert import Bert
from mtrain.models.transformer import Transformer
from mtrain.text.tokenizer import Tokenizer, TokenizerPair

CLASSES = {"pre": ("pegasus", "PegasusForConditionalGeneration"),
           "post": ("marian", "MarianMTModel")}  # fmt: skip
NEVER = -1e9  # the logit of a row that stands for no piece


class HuggingFaceFormat(ExchangeFormat):
    """Writes model.safetensors, its configuration, and the files of the tokenizer."""

    name = "huggingface"
    has_card = True

    def write(self, folder: Path, model: Model, config: Config, tokenizers: TokenizerPair) -> None:
        if isinstance(model, Bert):
            write_bert(folder, model, config, tokenizers.source)
            return
        assert isinstance(model, Transformer)
        assert isinstance(config.model, TransformerConfig)
        norm = config.model.norm
        if norm == "pre" and not _is_one_table(model):
            say(
                "Pegasus, the layout of pre-norm models, has one vocabulary: source, target and "
                "output get a table each, of one size, which transformers 5 or newer can load"
            )
        tensors = stack_tensors(model, config.model) | _tables(model, norm)
        if config.model.positions == "learned":
            for stack, positions in (("encoder", model.source_positions),
                                     ("decoder", model.target_positions)):  # fmt: skip
                (tensors[f"model.{stack}.embed_positions.weight"],) = positions.parameters()
        write_tensors(folder, tensors)
        write_json(folder / "config.json", _model_config(model, config.model, tokenizers))
        write_json(folder / "generation_config.json", _generation_config(config, tokenizers))
        _write_tokenizer(folder, config, tokenizers)

    def replay(
        self, folder: Path, sample: Sample, config: Config, tokenizers: TokenizerPair
    ) -> Replay | None:
        return translate_with_transformers(folder, sample, config.decoding.beam_size)

    def replay_masked(self, folder: Path, sample: MaskedSample) -> MaskedReplay | None:
        return fill_with_transformers(folder, sample, has_head=True)


def _is_one_table(model: Transformer) -> bool:
    """Tell whether source, target and output share one matrix."""
    return model.source_embedding.weight is model.output.weight


def _tables(model: Transformer, norm: str) -> dict[str, Tensor]:
    """Return the embeddings, the output layer and its bias.

    Pegasus ties all tables or none, and all have the same number of rows.
    """
    source, target = model.source_embedding.weight, model.target_embedding.weight
    output, output_bias = model.output.weight, model.output.bias
    bias = torch.zeros(1, len(output)) if output_bias is None else output_bias[None]
    if _is_one_table(model):
        return {"model.shared.weight": output, "final_logits_bias": bias}
    tables: dict[str, Tensor] = {
        "model.encoder.embed_tokens.weight": source,
        "model.decoder.embed_tokens.weight": target,
    }
    if norm == "pre":
        tables |= {"model.shared.weight": source, "lm_head.weight": output}
        size = max(len(source), len(target))
        tables = {name: F.pad(rows, (0, 0, 0, size - len(rows))) for name, rows in tables.items()}
        bias = F.pad(bias, (0, size - len(output)), value=NEVER)
    elif output is not target:
        tables["lm_head.weight"] = output
    return tables | {"final_logits_bias": bias}


def _model_config(
    model: Transformer, config: TransformerConfig, tokenizers: TokenizerPair
) -> dict[str, Any]:
    kind, architecture = CLASSES[config.norm]
    source, target = tokenizers.source, tokenizers.target
    if kind == "marian":
        tables = {
            "vocab_size": source.vocab_size,
            "decoder_vocab_size": target.vocab_size,
            "share_encoder_decoder_embeddings": _is_one_table(model),
            "tie_word_embeddings": model.output.weight is model.target_embedding.weight,
        }
    else:
        tables = {"vocab_size": tokenizers.vocab_size, "tie_word_embeddings": _is_one_table(model)}
    return {
        "architectures": [architecture],
        "model_type": kind,
        "dtype": "float32",
        **tables,
        "d_model": config.d_model,
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "encoder_attention_heads": config.num_heads,
        "decoder_attention_heads": config.num_heads,
        "encoder_ffn_dim": config.ffn_dim,
        "decoder_ffn_dim": config.ffn_dim,
        "activation_function": WRITTEN_ACTIVATIONS[config.activation],
        "max_position_embeddings": config.max_positions,
        "static_position_embeddings": config.positions == "sinusoidal",
        "scale_embedding": True,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": 0.0,
        "is_encoder_decoder": True,
        "pad_token_id": source.pad_id,
        "eos_token_id": target.eos_id,
        "forced_eos_token_id": None,
        "decoder_start_token_id": target.bos_id,
    }


def _generation_config(config: Config, tokenizers: TokenizerPair) -> dict[str, Any]:
    return {
        "decoder_start_token_id": tokenizers.target.bos_id,
        "eos_token_id": tokenizers.target.eos_id,
        "pad_token_id": tokenizers.source.pad_id,
        "num_beams": config.decoding.beam_size,
        "length_penalty": config.decoding.length_penalty,
        "early_stopping": False,
        "max_length": config.model.max_positions,
    }


def _write_tokenizer(folder: Path, config: Config, tokenizers: TokenizerPair) -> None:
    source, target = tokenizers.source, tokenizers.target
    tokenizers.save(folder, "source.spm", "target.spm")
    write_json(folder / "vocab.json", _ids_of_pieces(source))
    if source is not target:
        write_json(folder / "target_vocab.json", _ids_of_pieces(target))
    unknown, eos, pad = source.pieces([source.unknown_id, source.eos_id, source.pad_id])
    source_lang, target_lang = config.languages
    about = {
        "tokenizer_class": "MarianTokenizer",
        "source_lang": source_lang,
        "target_lang": target_lang,
        "unk_token": unknown,
        "eos_token": eos,
        "pad_token": pad,
        "separate_vocabs": source is not target,
        "model_max_length": config.model.max_positions,
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,  # "</s>" in a text is text
    }
    write_json(folder / "tokenizer_config.json", about)


def _ids_of_pieces(tokenizer: Tokenizer) -> dict[str, int]:
    pieces = tokenizer.pieces(range(tokenizer.vocab_size))
    return {piece: number for number, piece in enumerate(pieces)}

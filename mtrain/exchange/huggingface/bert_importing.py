"""Import of a BERT in Hugging Face's layouts: BERT, BigBird, RoBERTa (XLM-R), DistilBERT.

Reads what the folder says, refuses what mtrain computes otherwise, and renames the weights. Leaves
out what follows the encoder but for the head that predicts masked tokens.

Shapes: D width, V vocabulary, L positions.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from mtrain.config.encoder_attention import EncoderAttention
from mtrain.config.model import BertConfig
from mtrain.errors import UserError
from mtrain.exchange.huggingface.bert_names import BERT_LAYOUTS, BertLayout
from mtrain.exchange.huggingface.files import Tensors
from mtrain.exchange.huggingface.names import ACTIVATIONS
from mtrain.exchange.huggingface.tokenizer_json import read_tokenizer
from mtrain.models.bert import Bert

FULL, SPARSE = "original_full", "block_sparse"  # attention_type of BigBird
POSITIONS, TYPES = (
    "embeddings.position_embeddings.weight",
    "embeddings.token_type_embeddings.weight",
)
WORDS = "embeddings.word_embeddings.weight"
UNREAD = re.compile(r"(\w+\.)?embeddings\.(position_ids|token_type_ids)")
# heads of other tasks, and what they read
OTHER_HEADS = {
    "the pooler": re.compile(r"(\w+\.)?pooler\..*"),
    "the head for the next sentence": re.compile(r"cls\.seq_relationship\..*"),
    "the head of another task": re.compile(r"(pre_|qa_)?classifier\..*|qa_outputs\..*"),
}


@dataclass(frozen=True)
class ImportedBert:
    """A BERT as mtrain configures it, with its weights."""

    model: BertConfig
    weights: dict[str, Tensor]
    tokenizer: bytes  # a tokenizer.json
    prefix: str | None  # the piece before every text
    has_head: bool  # whether it predicts masked tokens
    left_out: Sequence[str]


def read_bert(folder: Path, about: Mapping[str, Any]) -> ImportedBert:
    """Read a model whose config.json is `about`.

    Raises UserError if it is damaged, or computes what mtrain does not.
    """
    layout = BERT_LAYOUTS[about["model_type"]]
    config = bert_config(folder, about, layout)
    tensors = Tensors(folder, "AutoModelForMaskedLM")
    prefix = layout.prefix if layout.prefix + WORDS in tensors else ""
    shapes = _shapes(config)
    weights = {
        ours: _joined(tensors, [prefix + part for part in theirs], shapes[ours])
        for ours, theirs in layout.encoder_names(config.encoder_layers)
    }
    words = tensors.take(prefix + WORDS, (None, config.d_model))
    places = tensors.take(prefix + POSITIONS, (None, config.d_model))
    if layout.begins_after_padding:
        places = places[_padding(folder, about) + 1 :]
    if layout.has_token_types:  # all text is of the first type
        places = places + tensors.take(prefix + TYPES, (None, config.d_model))[0]
    weights |= {"source_positions.weight": places, "source_embedding.weight": words}
    has_head = f"{layout.head['prediction'][0]}.weight" in tensors
    weights |= _head(tensors, layout, config, words) if has_head else _no_head(config, len(words))
    others = [name for name, pattern in OTHER_HEADS.items() if tensors.leave_out(pattern)]
    tensors.refuse_others(UNREAD)
    tokenizer, mark = read_tokenizer(folder, len(words))
    config = config.model_copy(update={"max_positions": len(places)})
    return ImportedBert(config, weights, tokenizer, mark, has_head, others)


def bert_config(folder: Path, about: Mapping[str, Any], layout: BertLayout) -> BertConfig:
    """Return the model's shape. Raises UserError for other models."""
    path = folder / "config.json"
    about = {**layout.usual, **{key: value for key, value in about.items() if value is not None}}
    attention_type = about["attention_type"] if layout.attention_keys else FULL
    unlike = {
        "is_decoder": about.get("is_decoder"),
        "add_cross_attention": about.get("add_cross_attention"),
        "position_embedding_type": about.get("position_embedding_type", "absolute") != "absolute",
        "tie_word_embeddings": not about.get("tie_word_embeddings", True),
        "use_bias": not about.get("use_bias", True),
        "rescale_embeddings": about.get("rescale_embeddings"),
        "attention_type": attention_type not in (FULL, SPARSE),
        "num_random_blocks": attention_type == SPARSE and about.get("num_random_blocks") == 0,
    }
    if found := [key for key, is_so in unlike.items() if is_so]:
        raise UserError(
            f"{path}: {found[0]}: {about[found[0]]}: mtrain's BERT computes otherwise",
            "it reads an encoder with learned positions, biases, and one matrix for embeddings and "
            "output; BigBird's attention full, or block-sparse with random blocks",
        )
    given, blocks = ({ours: about[theirs] for ours, theirs in keys.items() if theirs in about}
                     for keys in (layout.keys, layout.attention_keys))  # fmt: skip
    activation = given["activation"]
    if activation not in ACTIVATIONS:
        raise UserError(
            f"{path}: mtrain has no {layout.keys['activation']} {activation}",
            f"it has {', '.join(ACTIVATIONS)}",
        )
    if layout.begins_after_padding and ACTIVATIONS[activation] != "gelu":
        raise UserError(
            f"{path}: {layout.keys['activation']} {activation}: a RoBERTa's head has gelu all the "
            "same, and mtrain's has that of the layers"
        )
    missing = [layout.keys[key] for key in ("d_model", "encoder_layers", "num_heads", "ffn_dim")
               if key not in given]  # fmt: skip
    if missing:
        raise UserError(f"{path}: {missing[0]} is missing")
    settings = {**given, "activation": ACTIVATIONS[activation], **layout.fixed}
    try:
        config = BertConfig.model_validate(settings)
        attention = EncoderAttention.model_validate(blocks if attention_type == SPARSE else {})
    except ValidationError as error:
        problem = error.errors()[0]
        names = {**layout.keys, **layout.attention_keys}
        where = ".".join(names.get(str(key), str(key)) for key in problem["loc"])
        raise UserError(f"{path}: {where}: {problem['msg']}".replace(": : ", ": ")) from None
    if attention.full_up_to(config.max_positions) == config.max_positions:  # for any text
        return config
    return config.model_copy(update={"encoder_attention": attention})


def _shapes(config: BertConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = Bert(config, 1, 1)
    return {name: tuple(weight.shape) for name, weight in model.named_parameters()}


def _joined(tensors: Tensors, names: Sequence[str], shape: tuple[int, ...]) -> Tensor:
    """Return the weight whose rows are in the tensors `names`."""
    rows = shape[0] // len(names)
    return torch.cat([tensors.take(_stored(tensors, name), (rows, *shape[1:])) for name in names])


def _stored(tensors: Tensors, name: str) -> str:
    """Return the name of a tensor in the file: BERT's own files have TensorFlow's for norms."""
    old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
    old = old.replace("LayerNorm.bias", "LayerNorm.beta")
    return old if name not in tensors and old in tensors else name


def _padding(folder: Path, about: Mapping[str, Any]) -> int:
    padding = about.get("pad_token_id", 1)
    if not isinstance(padding, int) or padding < 0:
        raise UserError(f"{folder / 'config.json'}: pad_token_id {padding} is not an id")
    return padding


def _head(
    tensors: Tensors, layout: BertLayout, config: BertConfig, words: Tensor
) -> dict[str, Tensor]:
    """Return the weights of the head. Raises UserError if it has a matrix of its own."""
    shapes = _shapes(config)
    weights = {ours: _joined(tensors, theirs, shapes[ours]) for ours, theirs in layout.head_names()}
    weights["output.bias"] = tensors.take_tied(layout.output_biases, (len(words),))
    if layout.output_matrix in tensors and not torch.equal(
        tensors.take(layout.output_matrix, words.shape), words
    ):
        raise UserError(
            f"{tensors.folder}: {layout.output_matrix} is not the matrix of the embeddings; in "
            "mtrain both are one"
        )
    return weights


def _no_head(config: BertConfig, vocab_size: int) -> dict[str, Tensor]:
    """Return a head for the state to begin with: it passes the states on."""
    width = config.d_model
    return {
        "prediction.weight": torch.eye(width),
        "prediction.bias": torch.zeros(width),
        "prediction_norm.weight": torch.ones(width),
        "prediction_norm.bias": torch.zeros(width),
        "output.bias": torch.zeros(vocab_size),
    }

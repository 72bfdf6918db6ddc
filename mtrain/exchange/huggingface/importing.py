"""Import of a Transformer in Hugging Face's layout: Marian, M2M100 with NLLB, our Pegasus exports.

Reads what the folder says, refuses what mtrain computes otherwise, and renames the weights.

Shapes: D width, V a vocabulary, L positions.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from mtrain.config.model import TransformerConfig
from mtrain.console import warn
from mtrain.errors import UserError
from mtrain.exchange.huggingface.bert_names import BERT_LAYOUTS
from mtrain.exchange.huggingface.files import Tensors, read_json
from mtrain.exchange.huggingface.names import ACTIVATIONS, stack_names
from mtrain.exchange.huggingface.vocabularies import Vocabularies, read_vocabularies
from mtrain.models.transformer import Transformer
from mtrain.nn.positions import sinusoids

LAYOUTS = {"marian": "post", "m2m_100": "pre", "pegasus": "pre"}  # model_type: norm
TABLES = ("source_embedding", "target_embedding", "output")
SHARED, BIAS = "model.shared.weight", "final_logits_bias"
# stored by some versions of transformers, read by none
UNREAD = re.compile(r"model\.shared\.weight|model\.(en|de)coder\.embed_positions\.weights?")
NEVER = -100.0  # bias of what is never generated: too low to win, not too low for label smoothing
ROUNDING = 1e-3  # largest difference of positions that were stored in 16 bits


@dataclass(frozen=True)
class Imported:
    """A model as mtrain configures it, with its weights."""

    model: TransformerConfig
    weights: dict[str, Tensor]
    vocabularies: Vocabularies
    decoding: dict[str, Any]  # options of the section `decoding`
    languages: tuple[str | None, str | None]  # of source and target, as the folder names them


def read_folder(folder: Path) -> Imported:
    """Read a model. Raises UserError if it is damaged, or not of a known layout."""
    about = read_json(folder / "config.json")
    if about.get("model_type") not in LAYOUTS:
        raise UserError(
            f"{folder / 'config.json'}: the layout {about.get('model_type')} is not known",
            f"known: {', '.join((*LAYOUTS, *BERT_LAYOUTS))} (NLLB has that of m2m_100)",
        )
    tensors = Tensors(folder)
    config = model_config(folder, about)
    vocabularies = read_vocabularies(folder, about)
    generation = about
    if (folder / "generation_config.json").is_file():
        generation = read_json(folder / "generation_config.json")
    weights = {name: _joined(tensors, *wanted) for name, wanted in _stacks(config).items()}
    vocabularies, tables, bias = read_tables(tensors, about, config, vocabularies)
    bias[_never_generated(folder, generation, len(bias))] = NEVER
    positions = [_positions(tensors, about, config, stack) for stack in ("encoder", "decoder")]
    tensors.refuse_others(UNREAD)
    usual = sinusoids(config.max_positions, config.d_model)
    are_usual = all(torch.allclose(table, usual, atol=ROUNDING) for table in positions)
    if not are_usual:
        sides = zip(("source", "target"), positions, strict=True)
        weights |= {f"{side}_positions.weight": table for side, table in sides}
    if bias.any():
        weights["output.bias"] = bias
    tie = _tie(*tables)
    # a tied table has the name of the first that it stands for
    distinct = {"all": (0,), "decoder": (0, 1), "none": (0, 1, 2)}[tie]
    weights |= {f"{TABLES[number]}.weight": tables[number] for number in distinct}
    read = {
        "tie_embeddings": tie,
        "positions": "sinusoidal" if are_usual else "learned",
        "output_bias": bool(bias.any()),
    }
    tokenizer = read_json(folder / "tokenizer_config.json")
    languages = tokenizer.get("source_lang"), tokenizer.get("target_lang")
    return Imported(
        config.model_copy(update=read), weights, vocabularies, _decoding(generation), languages
    )


def model_config(folder: Path, about: Mapping[str, Any]) -> TransformerConfig:
    """Return the model's shape; ties, positions and the output bias come from the tensors."""
    path = folder / "config.json"
    activation = about.get("activation_function")
    if activation not in ACTIVATIONS:
        raise UserError(
            f"{path}: mtrain has no activation_function {activation}",
            f"it has {', '.join(ACTIVATIONS)}",
        )
    for one, other in (("encoder_attention_heads", "decoder_attention_heads"),
                       ("encoder_ffn_dim", "decoder_ffn_dim")):  # fmt: skip
        if about.get(one) != about.get(other):
            raise UserError(
                f"{path}: {one} {about.get(one)} differs from {other} {about.get(other)}; in "
                "mtrain the encoder and the decoder have the same"
            )
    try:
        return TransformerConfig.model_validate(
            {
                "d_model": about["d_model"],
                "encoder_layers": about["encoder_layers"],
                "decoder_layers": about["decoder_layers"],
                "num_heads": about["encoder_attention_heads"],
                "ffn_dim": about["encoder_ffn_dim"],
                "max_positions": about["max_position_embeddings"],
                "activation": ACTIVATIONS[activation],
                "norm": LAYOUTS[about["model_type"]],
                "dropout": about.get("dropout", 0.1),
                "attention_dropout": about.get("attention_dropout", 0.0),
            }
        )
    except KeyError as error:
        raise UserError(f"{path}: {error} is missing") from None
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise UserError(f"{path}: {where}: {problem['msg']}".replace(": : ", ": ")) from None


def _stacks(config: TransformerConfig) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """Return for each weight of the stacks its name, those of its parts there, and its shape."""
    with torch.device("meta"):
        model = Transformer(config.model_copy(update={"tie_embeddings": "all"}), 1, 1)
    shapes = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    return {ours: (theirs, shapes[ours]) for ours, theirs in stack_names(config)}


def _joined(tensors: Tensors, names: tuple[str, ...], shape: tuple[int, ...]) -> Tensor:
    """Return the weight whose rows are in the tensors `names`."""
    rows = shape[0] // len(names)
    return torch.cat([tensors.take(name, (rows, *shape[1:])) for name in names])


def read_tables(
    tensors: Tensors,
    about: Mapping[str, Any],
    config: TransformerConfig,
    vocabularies: Vocabularies,
) -> tuple[Vocabularies, list[Tensor], Tensor]:
    """Return the tables (V,D) of source, target and output, and the bias (V,) of the logits.

    Rows of no piece are left out where the vocabularies are separate; else they get a name in the
    vocabularies that are returned.
    """
    encoder, decoder = (f"model.{stack}.embed_tokens.weight" for stack in ("encoder", "decoder"))
    output = "lm_head.weight"
    is_shared = about.get("share_encoder_decoder_embeddings", True)
    if not about.get("tie_word_embeddings", True):
        tied = [[encoder if encoder in tensors else SHARED],
                [decoder if decoder in tensors else SHARED], [output]]  # fmt: skip
    elif is_shared:
        tied = [[SHARED, encoder, decoder, output]] * 3
    else:
        tied = [[encoder], [decoder, output], [decoder, output]]
    tables = [tensors.take_tied(names, (None, config.d_model)) for names in tied]
    rows = [len(table) for table in tables]
    bias = torch.zeros(rows[2])
    if BIAS in tensors:
        bias = tensors.take(BIAS, (1, rows[2]))[0]
    if not vocabularies.are_separate:
        vocabularies = vocabularies.with_names(max(rows))
    sizes = [len(side.pieces) for side in (vocabularies.source, vocabularies.target)]
    for table, size in zip(tables, (*sizes, sizes[1]), strict=True):
        if len(table) < size:
            raise UserError(
                f"{tensors.folder}: {size} pieces, but a table of embeddings has only {len(table)} "
                "rows",
                "the files of the tokenizer are not those of this model",
            )
    tables = [table[:size] for table, size in zip(tables, (*sizes, sizes[1]), strict=True)]
    is_scaled_by_default = about["model_type"] == "m2m_100"
    if not about.get("scale_embedding", is_scaled_by_default):  # mtrain always scales them
        tables[:2] = [table / config.d_model**0.5 for table in tables[:2]]
    return vocabularies, tables, bias[: sizes[1]].clamp_min(NEVER)


def _tie(source: Tensor, target: Tensor, output: Tensor) -> str:
    """Return which tables are one: the value of `model.tie_embeddings`."""
    if not torch.equal(target, output):
        return "none"
    return "all" if torch.equal(source, target) else "decoder"


def _positions(
    tensors: Tensors, about: Mapping[str, Any], config: TransformerConfig, stack: str
) -> Tensor:
    """Return the vectors (L,D) of a stack's positions."""
    count, width = config.max_positions, config.d_model
    if about["model_type"] == "m2m_100":
        return _fairseq_sinusoids(about["pad_token_id"] + 1, count, width)
    name = f"model.{stack}.embed_positions.weight"
    return tensors.take(name, (count, width)) if name in tensors else sinusoids(count, width)


def _fairseq_sinusoids(first: int, count: int, width: int) -> Tensor:
    """Return fairseq's fixed encoding of `count` positions from `first` on, (L,D).

    Its rates fall to exactly 1/10,000, those of Vaswani et al. 2017 nearly so.
    """
    half = width // 2
    rates = torch.exp(torch.arange(half) * -(math.log(10_000) / (half - 1)))
    angles = torch.arange(first, first + count)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _never_generated(folder: Path, generation: Mapping[str, Any], size: int) -> list[int]:
    """Return the ids, of `size`, that the folder forbids in a translation."""
    forbidden = generation.get("bad_words_ids") or []
    try:
        ids = [row[0] for row in forbidden if len(row) == 1]
        if all(0 <= number < size for number in ids):
            return ids
    except (TypeError, KeyError):
        pass
    raise UserError(f"{folder}: bad_words_ids {forbidden}: these are not lists of ids below {size}")


def _decoding(generation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the search that mtrain has too; warn of the others."""
    unlike = {"no_repeat_ngram_size": 0, "repetition_penalty": 1.0, "num_beam_groups": 1,
              "do_sample": False, "min_length": 0, "min_new_tokens": 0,
              "suppress_tokens": []}  # fmt: skip
    left_out = [key for key, usual in unlike.items() if generation.get(key) not in (None, usual)]
    left_out += ["bad_words_ids of several tokens"] * any(
        len(ids) > 1 for ids in generation.get("bad_words_ids") or []
    )
    if left_out:
        warn(f"not taken over, as mtrain's search has no such thing: {', '.join(left_out)}")
    options = {"beam_size": generation.get("num_beams"),
               "length_penalty": generation.get("length_penalty")}  # fmt: skip
    return {key: value for key, value in options.items() if value is not None}

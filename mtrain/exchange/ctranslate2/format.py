"""Export of a Transformer in CTranslate2's format."""

from pathlib import Path
from typing import Any, cast

import ctranslate2
import numpy as np
import torch
from ctranslate2.specs import common_spec, transformer_spec
from torch import Tensor, nn

from mtrain.config import Config
from mtrain.config.model import TransformerConfig
from mtrain.exchange.base import ExchangeFormat
from mtrain.exchange.comparison import Output, Replay, Sample
from mtrain.models import Model
from mtrain.models.transformer import Transformer
from mtrain.nn.embeddings import Combination
from mtrain.nn.layers import DecoderLayer
from mtrain.text.lines import one_line
from mtrain.text.tokenizer import Tokenizer, TokenizerPair

ACTIVATIONS = {
    "relu": common_spec.Activation.RELU,
    "gelu": common_spec.Activation.GELU,
    "gelu_tanh": common_spec.Activation.GELUTanh,
    "silu": common_spec.Activation.SWISH,
    "swiglu": common_spec.Activation.SWISH,
}

QUANTIZATIONS = {"fp32": None, "fp16": "float16", "int8": "int8"}


class CTranslate2Format(ExchangeFormat):
    """Writes model.bin, config.json, the vocabularies, and the SentencePiece models."""

    name = "ctranslate2"
    number_formats = ("fp32", "fp16", "int8")

    def write(self, folder: Path, model: Model, config: Config, tokenizers: TokenizerPair) -> None:
        assert isinstance(model, Transformer)
        assert isinstance(config.model, TransformerConfig)
        spec = _spec(model, config.model, tokenizers)
        spec.optimize(QUANTIZATIONS[self.weights])
        spec.save(str(folder))
        tokenizers.save(folder, "source.spm", "target.spm")

    def replay(
        self, folder: Path, sample: Sample, config: Config, tokenizers: TokenizerPair
    ) -> Replay:
        translator = ctranslate2.Translator(str(folder), compute_type="default")
        source, target = tokenizers.source, tokenizers.target
        id_of = {piece: number for number, piece in enumerate(vocabulary(target))}
        pieces = [source.pieces(ids) for ids in sample.sources]

        def translate(beam_size: int) -> list[Output]:
            results = translator.translate_batch(
                pieces,
                target_prefix=[target.pieces(target.prefix)] * len(pieces),
                beam_size=beam_size,
                length_penalty=config.decoding.length_penalty,
                max_input_length=0,
                max_decoding_length=sample.max_new_tokens,
            )
            ids = [[id_of[piece] for piece in result.hypotheses[0]] for result in results]
            return list(map(Output, ids, map(one_line, target.decode(ids))))

        scored = translator.score_batch(
            pieces, [target.pieces(output.ids) for output in sample.greedy], max_input_length=0
        )
        return Replay(
            f"CTranslate2 {ctranslate2.__version__}",
            sample.sources,
            translate(1),
            translate(config.decoding.beam_size),
            [result.log_probs for result in scored],
        )


def _spec(
    model: Transformer, config: TransformerConfig, tokenizers: TokenizerPair
) -> transformer_spec.TransformerSpec:
    shape = {
        "num_heads": config.num_heads,
        "pre_norm": config.norm == "pre",
        "activation": ACTIVATIONS[config.activation],
        "ffn_glu": config.activation == "swiglu",
        "rms_norm": config.norm_type == "rms",
        "rotary_dim": 0 if config.positions == "rotary" else None,
        "rotary_interleave": False,
        "layernorm_embedding": config.embedding_norm,
    }
    spec = transformer_spec.TransformerSpec(
        transformer_spec.TransformerEncoderSpec(config.encoder_layers, **shape),
        transformer_spec.TransformerDecoderSpec(config.decoder_layers, **shape),
    )
    sides: tuple[tuple[Any, Any, nn.Module, nn.Module, Combination, nn.Module], ...] = (
        (spec.encoder.embeddings[0], spec.encoder, model.source_embedding, model.source_positions,
         model.source_combined, model.encoder_norm),
        (spec.decoder.embeddings, spec.decoder, model.target_embedding, model.target_positions,
         model.target_combined, model.decoder_norm),
    )  # fmt: skip
    for embeddings, stack, embedding, positions, combined, norm in sides:
        embeddings.weight = _array(embedding.weight)
        if config.positions != "rotary":
            table = positions(torch.arange(model.max_positions))
            stack.position_encodings.encodings = _array(table)
        if combined.norm is not None:
            stack.scale_embeddings = False
            _put_norm(stack.layernorm_embedding, combined.norm)
        if config.norm == "pre":
            _put_norm(stack.layer_norm, norm)
    spec.decoder.projection.weight = _array(model.output.weight)
    if model.output.bias is not None:
        spec.decoder.projection.bias = _array(model.output.bias)
    for layers, modules in (
        (spec.encoder.layer, model.encoder),
        (spec.decoder.layer, model.decoder),
    ):
        for layer, module in zip(layers, modules, strict=True):
            _put_layer(layer, module)
    source, target = tokenizers.source, tokenizers.target
    spec.register_source_vocabulary(vocabulary(source))
    spec.register_target_vocabulary(vocabulary(target))
    (spec.config.unk_token,) = target.pieces([target.unknown_id])
    (spec.config.eos_token,) = target.pieces([target.eos_id])
    (spec.config.bos_token,) = (spec.config.decoder_start_token,) = target.pieces([target.bos_id])
    spec.config.add_source_eos = True
    norm = cast(Any, model.encoder[0]).residuals[0].norm
    spec.config.layer_norm_epsilon = norm.eps or torch.finfo(torch.float32).eps  # RMSNorm's default
    spec.validate()
    return spec


def _put_layer(spec: Any, ours: Any) -> None:
    """Copy an encoder layer, or a decoder layer, which also has cross-attention."""
    norms = [residual.norm for residual in ours.residuals]
    own = ours.self_attention
    _put_attention(spec.self_attention, norms[0], own.in_projection, own.out_projection)
    if isinstance(ours, DecoderLayer):
        cross = ours.cross_attention
        projections = cross.query_projection, cross.memory_projection, cross.out_projection
        _put_attention(spec.attention, norms[1], *projections)
    _put_norm(spec.ffn.layer_norm, norms[-1])
    inner, outer = ours.feed_forward.inner, ours.feed_forward.outer
    parts = [spec.ffn.linear_0]
    if ours.feed_forward.is_gated:
        parts.append(spec.ffn.linear_0_noact)
    count = len(parts)
    for part, weight, bias in zip(
        parts, inner.weight.chunk(count), inner.bias.chunk(count), strict=True
    ):
        _put_linear(part, weight, bias)
    _put_linear(spec.ffn.linear_1, outer.weight, outer.bias)


def _put_attention(spec: Any, norm: nn.Module, *projections: nn.Linear) -> None:
    _put_norm(spec.layer_norm, norm)
    for part, linear in zip(spec.linear, projections, strict=True):
        _put_linear(part, linear.weight, linear.bias)


def _put_linear(spec: Any, weight: Tensor, bias: Tensor) -> None:
    spec.weight, spec.bias = _array(weight), _array(bias)


def _put_norm(spec: Any, norm: Any) -> None:
    spec.gamma = _array(norm.weight)
    if isinstance(norm, nn.LayerNorm):
        spec.beta = _array(norm.bias)


def _array(tensor: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    array: np.ndarray[Any, np.dtype[np.float32]] = tensor.detach().float().cpu().numpy()
    return np.array(array, order="C")  # a copy, which quantisation overwrites


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """Return the piece of every id, in order."""
    return tokenizer.pieces(range(tokenizer.vocab_size))

"""The section `model`: one class per architecture, selected by `type`.

To add an architecture, define its section here and add it to `ModelConfig`.
"""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from mtrain.config.encoder_attention import EncoderAttention
from mtrain.config.section import LocalPath, PositiveFloat, PositiveInt, Probability, Section

ExportFormat = Literal["ctranslate2", "huggingface"]
EXPORT_FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)
NORM_EPSILON = 1e-5  # that of torch, and of each translation model of Hugging Face


def cannot_hold(export_format: str, limit: str) -> str:
    """Return the message that a format cannot hold a model, for one of its `export_limits`."""
    return f"{export_format} cannot hold a model with {limit}"


Activation = Literal["relu", "gelu", "gelu_tanh", "silu", "swiglu"]
ModelPart = Literal["encoder", "decoder", "embeddings"]
MODEL_PARTS: tuple[ModelPart, ...] = get_args(ModelPart)


class BaseRun(Section):
    """The run whose weights a new run starts from."""

    run: LocalPath
    """run folder"""
    parts: Annotated[tuple[ModelPart, ...], Field(min_length=1)] = MODEL_PARTS
    """parts to copy; the others are newly initialised"""
    layers: Literal["all", "every_second"] = "all"
    """layers to copy: each by its number (all), or every second one into a side that has half as
    many, as DistilBERT does (Sanh 2019)"""


class FeaturesConfig(Section):
    """A frozen BERT, whose states of each source line the model reads too (Zhu et al. 2020)."""

    run: LocalPath
    """run folder of a BERT, trained or imported; `train` copies it into its own run"""
    layer: Annotated[int, Field(ge=-1000, le=1000)] = -1
    """the layer whose states are read: 1 is the lowest, -1 the last"""
    drop: Annotated[float, Field(ge=0, le=1)] = 1.0
    """drop-net: in training, this share of the sentences uses one of a layer's two attentions
    alone, either with equal probability; the others use the mean of both"""

    @model_validator(mode="after")
    def _layers_count_from_1(self) -> "FeaturesConfig":
        if not self.layer:
            raise ValueError("layer: there is no layer 0; 1 is the lowest, -1 the last")
        return self


def _is_one_run(value: Any) -> str:
    return "<base>" if isinstance(value, dict | BaseRun) else "<run>"


class ModelSection(Section):
    """Keys that every architecture has."""

    type: str
    """architecture"""
    init_from: (
        Annotated[
            Annotated[LocalPath, Tag("<run>")] | Annotated[BaseRun, Tag("<base>")],
            Discriminator(_is_one_run),
        ]
        | None
    ) = None
    """run folder to start from, or {run: ..., parts: [encoder, decoder, embeddings], layers: all}:
    its best weights, and its `model` and `tokenizer` settings where the configuration has none"""
    dropout: Probability = 0.1
    """dropout on embeddings, sub-layer outputs, between recurrent layers and on the readout"""
    token_dropout: Probability = 0.0
    """share of the tokens, on either side, whose embeddings training leaves out (Sennrich 2016)"""
    max_positions: Annotated[int, Field(ge=8, le=1 << 20)] = 512
    """maximum source or target length in tokens; `translate` splits longer source lines"""
    tie_embeddings: Literal["auto", "all", "decoder", "none"] = "auto"
    """weight tying: source and target embedding and output matrix (all), the last two (decoder)
    or none; auto is all with a shared tokenizer, else decoder"""

    @property
    def base(self) -> BaseRun | None:
        """The run to start from, as a section."""
        if isinstance(self.init_from, Path):  # expanded already, so not validated again
            return BaseRun.model_construct(run=self.init_from, parts=MODEL_PARTS)
        return self.init_from

    @property
    def hidden_width(self) -> float:
        """The width of hidden states, infinite where an architecture does not say it."""
        return math.inf

    @property
    def export_limits(self) -> dict[str, str]:
        """The formats that cannot hold such a model, and why."""
        return dict.fromkeys(EXPORT_FORMATS, f"model.type: {self.type}")


class StackSection(ModelSection):
    """Keys of a stack of Transformer layers."""

    d_model: PositiveInt = 256
    """width of embeddings and hidden states"""
    num_heads: PositiveInt = 4
    """attention heads; must divide d_model"""
    ffn_dim: PositiveInt = 1024
    """inner width of the feed-forward layers"""
    activation: Activation = "relu"
    """activation of the feed-forward layers; gelu_tanh is GELU by tanh instead of the error
    function, swiglu's gate adds half as many weights again"""
    attention_dropout: Probability = 0.0
    """dropout on attention weights"""
    norm: Literal["pre", "post"] = "pre"
    """normalise before each sub-layer (pre), or after its residual as in Vaswani 2017 (post)"""
    norm_type: Literal["layer", "rms"] = "layer"
    """LayerNorm, or RMSNorm, which has no mean subtraction and no bias"""
    norm_epsilon: PositiveFloat = NORM_EPSILON
    """what LayerNorm adds to the variance"""
    positions: Literal["sinusoidal", "learned", "rotary"] = "sinusoidal"
    """position encoding: added to the embeddings, or (rotary) a rotation of queries and keys"""

    @property
    def hidden_width(self) -> float:
        """The width of hidden states."""
        return self.d_model

    @property
    def layer(self) -> dict[str, Any]:
        """The shape of a layer."""
        shared = {"d_model", "num_heads", "ffn_dim", "activation", "dropout", "attention_dropout",
                  "norm", "norm_type", "norm_epsilon"}  # fmt: skip
        return self.model_dump(include=shared)

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> "StackSection":
        if self.d_model % self.num_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide d_model {self.d_model}")
        if self.d_model % 2:
            raise ValueError(f"d_model {self.d_model} is odd: positions come in pairs")
        if self.positions == "rotary" and self.d_model // self.num_heads % 2:
            raise ValueError(
                f"d_model {self.d_model} over num_heads {self.num_heads} is odd: "
                "rotary positions turn pairs"
            )
        return self


class EncoderSection(StackSection):
    """Keys of an encoder."""

    encoder_layers: PositiveInt = 3
    """number of encoder layers"""
    embedding_norm: bool = False
    """normalise the sum of embeddings and positions, as BERT does, instead of multiplying the
    embeddings by the square root of d_model"""
    encoder_attention: EncoderAttention = EncoderAttention()
    """which tokens of a source attend to which: {type: block_sparse} for long texts"""

    @model_validator(mode="after")
    def _pattern_fits(self) -> "EncoderSection":
        self.encoder_attention.check_fits(self.max_positions)
        return self


class TransformerConfig(EncoderSection):
    """Keys of the encoder-decoder Transformer."""

    type: Literal["transformer"] = "transformer"
    """architecture"""
    decoder_layers: PositiveInt = 3
    """number of decoder layers"""
    output_bias: bool = False
    """add a learned bias to the logits, as Marian does"""
    features: FeaturesConfig | None = None
    """a frozen BERT, whose states of a source line each layer attends to as well"""

    @property
    def export_limits(self) -> dict[str, str]:
        """The formats that cannot hold such a model, and why."""
        if self.features is not None:
            return dict.fromkeys(EXPORT_FORMATS, "model.features")
        if self.encoder_attention.is_sparse:
            return dict.fromkeys(EXPORT_FORMATS, "model.encoder_attention: block_sparse")
        reasons = {
            "model.positions: rotary": self.positions == "rotary",
            "model.norm_type: rms": self.norm_type == "rms",
            "model.activation: swiglu": self.activation == "swiglu",
            "model.embedding_norm": self.embedding_norm,
            "model.norm_epsilon": self.norm_epsilon != NORM_EPSILON,
        }
        unusual = ", ".join(key for key, is_so in reasons.items() if is_so)
        limits = {"huggingface": unusual} if unusual else {}
        if self.embedding_norm and self.norm_type == "rms":  # it has one epsilon for both
            limits["ctranslate2"] = "model.embedding_norm and model.norm_type: rms"
        return limits


class DecoderOnlyConfig(StackSection):
    """Keys of the decoder-only model: one stack reads source, separator and target."""

    type: Literal["decoder_only"] = "decoder_only"
    """architecture"""
    decoder_layers: PositiveInt = 3
    """number of decoder layers"""
    source_attention: Literal["full", "causal"] = "full"
    """source tokens attend to the whole source (full: prefix LM) or only to the left (causal)"""
    source_loss: bool = False
    """also train on predicting the source; needs source_attention: causal and one vocabulary"""

    @model_validator(mode="after")
    def _source_is_not_given_away(self) -> "DecoderOnlyConfig":
        if self.source_loss and self.source_attention == "full":
            raise ValueError(
                "source_loss needs source_attention: causal; with full attention a source token "
                "sees the next one, which it is to predict"
            )
        return self


class BertConfig(EncoderSection):
    """Keys of BERT (Devlin 2019), without segments: an encoder that predicts masked tokens."""

    type: Literal["bert"] = "bert"
    """architecture"""
    tie_embeddings: Literal["auto", "all"] = "auto"
    """weight tying: the embedding is always the output matrix too"""
    encoder_layers: PositiveInt = 6
    """number of encoder layers"""
    embedding_norm: bool = True
    """normalise the sum of embeddings and positions, instead of multiplying the embeddings by the
    square root of d_model"""
    activation: Activation = "gelu"
    """activation of the feed-forward layers and before the output layer"""
    attention_dropout: Probability = 0.1
    """dropout on attention weights"""
    norm: Literal["pre", "post"] = "post"
    """normalise before each sub-layer (pre), or after its residual (post)"""
    positions: Literal["sinusoidal", "learned", "rotary"] = "learned"
    """position encoding: added to the embeddings, or (rotary) a rotation of queries and keys"""

    @property
    def export_limits(self) -> dict[str, str]:
        """Why CTranslate2, and BERT or BigBird of `transformers`, cannot hold such a model."""
        reasons = {
            "model.norm: pre": self.norm == "pre",
            f"model.positions: {self.positions}": self.positions != "learned",
            "model.norm_type: rms": self.norm_type == "rms",
            "model.activation: swiglu": self.activation == "swiglu",
            "model.embedding_norm: false": not self.embedding_norm,
        } | self.encoder_attention.unlike_big_bird(self.max_positions)
        unusual = ", ".join(key for key, is_so in reasons.items() if is_so)
        limits = {"ctranslate2": f"model.type: {self.type}"}
        return limits | ({"huggingface": unusual} if unusual else {})


class RnnConfig(ModelSection):
    """Keys of the recurrent encoder-decoder."""

    type: Literal["rnn"] = "rnn"
    """architecture"""
    cell: Literal["gru", "lstm"] = "gru"
    """recurrent unit"""
    encoder_layers: PositiveInt = 1
    """number of encoder layers"""
    decoder_layers: PositiveInt = 1
    """number of decoder layers"""
    bidirectional_layers: Annotated[int, Field(ge=0)] = 1
    """number of bidirectional encoder layers, from the lowest up"""
    embedding_dim: PositiveInt = 256
    """width of the embeddings and of the output layer's input"""
    hidden_dim: PositiveInt = 512
    """width of each recurrent state, per direction, and of the attention's scoring layer"""
    attention: Literal["none", "additive", "dot", "general"] = "additive"
    """attention score: additive (Bahdanau 2015), dot or general (Luong 2015);
    with none the decoder sees the source only through its initial state"""
    query: Literal["previous", "bottom", "top"] = "previous"
    """attention query: the bottom layer's previous state, with the context as its input (Bahdanau);
    its new state, with the context for the layers above (GNMT); or the top layer's state (Luong)"""
    input_feeding: bool = False
    """with query top: feed the attentional state into the next step (Luong 2015, section 3.3)"""
    residual: bool = False
    """residual connections, from the third layer on (GNMT)"""
    readout: Literal["maxout", "tanh"] = "maxout"
    """layer before the output matrix: maxout over pairs of units, from state, context and last
    word (Bahdanau 2015), or tanh, from state and context (Luong 2015)"""

    @property
    def hidden_width(self) -> float:
        """The width of hidden states."""
        return self.hidden_dim

    @model_validator(mode="after")
    def _attention_fits_the_states(self) -> "RnnConfig":
        if self.bidirectional_layers > self.encoder_layers:
            raise ValueError(
                f"bidirectional_layers {self.bidirectional_layers} is more than "
                f"encoder_layers {self.encoder_layers}"
            )
        reads_both_ways = self.bidirectional_layers == self.encoder_layers
        if self.attention == "dot" and reads_both_ways:
            raise ValueError(
                "attention: dot compares states of one width, but an encoder whose last layer "
                "reads both ways has wider ones; use general, or a lower bidirectional_layers"
            )
        if self.residual and 2 <= self.bidirectional_layers < self.encoder_layers:
            raise ValueError(
                "residual: the first layer that reads one way has another width than what it "
                "reads; set bidirectional_layers to 0, 1 or encoder_layers"
            )
        if self.query == "bottom" and self.decoder_layers == 1:
            raise ValueError(
                "query: bottom serves the layers above: decoder_layers must be 2 or more"
            )
        if self.input_feeding and (self.query != "top" or self.attention == "none"):
            raise ValueError("input_feeding needs attention, and query: top")
        return self


def _model_type(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"<{kind or 'transformer'}>"


ModelConfig = Annotated[
    Annotated[TransformerConfig, Tag("<transformer>")]
    | Annotated[RnnConfig, Tag("<rnn>")]
    | Annotated[DecoderOnlyConfig, Tag("<decoder_only>")]
    | Annotated[BertConfig, Tag("<bert>")],
    Discriminator(_model_type),
]

# Keys are the tags that pydantic's errors name.
MODEL_SECTIONS: dict[str, type[BaseModel]] = {
    tag.tag: section for section, tag in map(get_args, get_args(get_args(ModelConfig)[0]))
}

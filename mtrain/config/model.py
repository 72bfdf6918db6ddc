"""The section `model`: one kind of it for each architecture, told apart by `type`.

A new architecture has its keys here, in a section of its own and a line of `ModelConfig`.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Discriminator, Field, Tag, model_validator

from mtrain.config.section import PositiveInt, Probability, Section


class ModelSection(Section):
    """What every architecture has."""

    type: str
    """architecture"""
    dropout: Probability = 0.1
    """on embeddings, on every sub-layer's output, between recurrent layers and on the readout"""
    max_positions: Annotated[int, Field(ge=8, le=1 << 20)] = 512
    """longest source or target in tokens; `translate` splits a longer source line"""
    tie_embeddings: Literal["auto", "all", "decoder", "none"] = "auto"
    """which of source, target and output matrix are one: all three, the decoder's two, none;
    auto is all with a shared tokenizer, else decoder"""


class StackSection(ModelSection):
    """What the layers of a Transformer are made of."""

    decoder_layers: PositiveInt = 3
    """depth of the decoder"""
    d_model: PositiveInt = 256
    """width"""
    num_heads: PositiveInt = 4
    """attention heads; divides d_model"""
    ffn_dim: PositiveInt = 1024
    """width inside the feed-forward layers"""
    activation: Literal["relu", "gelu", "swiglu"] = "relu"
    """of the feed-forward layers; swiglu has a gate, so half as many weights again"""
    attention_dropout: Probability = 0.0
    """on attention weights"""
    norm: Literal["pre", "post"] = "pre"
    """normalise before each sub-layer, or after its residual as in the paper"""
    norm_type: Literal["layer", "rms"] = "layer"
    """LayerNorm, or RMSNorm, which neither centres nor shifts"""
    positions: Literal["sinusoidal", "learned", "rotary"] = "sinusoidal"
    """position encoding: added to the embeddings, or turning queries and keys"""

    @property
    def layer(self) -> dict[str, Any]:
        """The keys that a layer is made with."""
        shared = {"d_model", "num_heads", "ffn_dim", "activation", "dropout", "attention_dropout",
                  "norm", "norm_type"}  # fmt: skip
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


class TransformerConfig(StackSection):
    """The Transformer's form and size."""

    type: Literal["transformer"] = "transformer"
    """architecture"""
    encoder_layers: PositiveInt = 3
    """depth of the encoder"""


class DecoderOnlyConfig(StackSection):
    """Form and size of one stack that reads source, separator and target in a row."""

    type: Literal["decoder_only"] = "decoder_only"
    """architecture"""
    source_attention: Literal["full", "causal"] = "full"
    """whether a source token sees the whole source (prefix LM) or only what is before it"""
    source_loss: bool = False
    """also learn to predict the source; needs source_attention: causal and one vocabulary"""

    @model_validator(mode="after")
    def _source_is_not_given_away(self) -> "DecoderOnlyConfig":
        if self.source_loss and self.source_attention == "full":
            raise ValueError(
                "source_loss needs source_attention: causal; with full attention a source token "
                "sees the next one, which it is to predict"
            )
        return self


class RnnConfig(ModelSection):
    """Form and size of the recurrent encoder-decoder."""

    type: Literal["rnn"] = "rnn"
    """architecture"""
    cell: Literal["gru", "lstm"] = "gru"
    """recurrent unit"""
    encoder_layers: PositiveInt = 1
    """depth of the encoder"""
    decoder_layers: PositiveInt = 1
    """depth of the decoder"""
    bidirectional_layers: Annotated[int, Field(ge=0)] = 1
    """how many of the lowest encoder layers read both ways"""
    embedding_dim: PositiveInt = 256
    """width of the embeddings and of what the output matrix reads"""
    hidden_dim: PositiveInt = 512
    """width of each recurrent state, in each direction, and of the alignment model"""
    attention: Literal["none", "additive", "dot", "general"] = "additive"
    """how a query is matched with the encoder's states (Bahdanau 2015; Luong 2015);
    with none the decoder knows the source by its first state alone"""
    query: Literal["previous", "bottom", "top"] = "previous"
    """what attention asks with: the state before this token, whose answer then makes the next
    (Bahdanau); the bottom layer's new state, for the layers above (GNMT); the top one (Luong)"""
    input_feeding: bool = False
    """with query top: let the next step read what attention found (Luong 2015, section 3.3)"""
    residual: bool = False
    """add each layer's input to its output, from the third layer on (GNMT)"""
    readout: Literal["maxout", "tanh"] = "maxout"
    """what joins state, context and last word before the output matrix: pairs of units of which
    the larger counts (Bahdanau 2015), or one tanh layer (Luong 2015)"""

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
    | Annotated[DecoderOnlyConfig, Tag("<decoder_only>")],
    Discriminator(_model_type),
]

# By their tags, by which an error says which kind it was in.
MODEL_SECTIONS: dict[str, type[BaseModel]] = {
    tag.tag: section for section, tag in map(get_args, get_args(get_args(ModelConfig)[0]))
}

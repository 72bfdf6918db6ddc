"""The architectures, by the name that `model.type` gives. A new one is a file and a line here."""

from typing import Any

from mtrain.config.schema import Config
from mtrain.models.base import Head, Model, State
from mtrain.models.decoder_only import DecoderOnly
from mtrain.models.rnn import Rnn
from mtrain.models.transformer import Transformer
from mtrain.text.tokenizer import TokenizerPair

MODELS: dict[str, Any] = {
    "transformer": Transformer,
    "rnn": Rnn,
    "decoder_only": DecoderOnly,
}

__all__ = ["MODELS", "Head", "Model", "State", "aligning_head", "build_model"]


def build_model(config: Config, tokenizers: TokenizerPair) -> Model:
    """Return a newly initialised model of the configuration's type."""
    tie_embeddings = config.model.tie_embeddings
    if tie_embeddings == "auto":
        tie_embeddings = "all" if config.shares_vocabulary else "decoder"
    model: Model = MODELS[config.model.type](
        config.model.model_copy(update={"tie_embeddings": tie_embeddings}),
        tokenizers.source.vocab_size,
        tokenizers.target.vocab_size,
    )
    return model


def aligning_head(config: Config) -> Head:
    """Return the head by whose attention words are aligned, and which alignments guide.

    Guided ones teach the first of a layer's heads, where the configuration names none (Garg et
    al. 2019): the others stay free.
    """
    head = config.decoding.alignment_head
    if head is None and config.data.has_alignments and config.training.alignment_weight:
        head = 1
    return Head(config.decoding.alignment_layer, head)

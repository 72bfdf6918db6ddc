"""The architectures, by the name that `model.type` gives. A new one is a file and a line here."""

from mtrain.config.schema import Config
from mtrain.models.base import Model, State
from mtrain.models.transformer import Transformer
from mtrain.text.tokenizer import TokenizerPair

MODELS = {
    "transformer": Transformer,
}

__all__ = ["MODELS", "Model", "State", "build_model"]


def build_model(config: Config, tokenizers: TokenizerPair) -> Model:
    """Return a newly initialised model of the configuration's type."""
    tie_embeddings = config.model.tie_embeddings
    if tie_embeddings == "auto":
        tie_embeddings = "all" if config.shares_vocabulary else "decoder"
    return MODELS[config.model.type](
        config.model.model_copy(update={"tie_embeddings": tie_embeddings}),
        tokenizers.source.vocab_size,
        tokenizers.target.vocab_size,
    )

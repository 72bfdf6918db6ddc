"""The architectures, by the name that `model.type` gives; README.md says how to add one."""

from collections.abc import Callable

from mtrain.config.run import Config
from mtrain.models.base import Head, Model, SearchedModel, State, TranslationModel
from mtrain.models.bert import Bert
from mtrain.models.decoder_only import DecoderOnly
from mtrain.models.rnn import Rnn
from mtrain.models.transformer import Transformer

MODELS: dict[str, Callable[..., Model]] = {
    "transformer": Transformer,
    "rnn": Rnn,
    "decoder_only": DecoderOnly,
    "bert": Bert,
}

__all__ = [
    "MODELS",
    "Head",
    "Model",
    "SearchedModel",
    "State",
    "TranslationModel",
    "alignment_head",
    "build_model",
]


def build_model(
    config: Config, source_vocab: int, target_vocab: int, feature_width: int = 0
) -> Model:
    """Return a newly initialised model of the configuration's type.

    `feature_width` is the width of the features that it reads, if `model.features` names some.
    """
    read = {} if config.features is None else {"feature_width": feature_width}
    tie_embeddings = config.model.tie_embeddings
    if tie_embeddings == "auto":
        tie_embeddings = "all" if config.shares_vocabulary else "decoder"
    return MODELS[config.model.type](
        config.model.model_copy(update={"tie_embeddings": tie_embeddings}),
        source_vocab,
        target_vocab,
        **read,
    )


def alignment_head(config: Config) -> Head:
    """Return the head that aligns words, and that given alignments train.

    Where the configuration names none, given alignments train the first head of the layer (Garg et
    al. 2019); the other heads stay free.
    """
    head = config.decoding.alignment_head
    if head is None and config.data.has_alignments and config.training.alignment_weight:
        head = 1
    return Head(config.decoding.alignment_layer, head)

"""Our own search engine over a model, its weights in the layout that is multiplied fastest."""

from contextlib import nullcontext

from mtrain.config import Config
from mtrain.decoding.engine import TorchEngine
from mtrain.models import Model, TranslationModel, alignment_head
from mtrain.nn.prepacked import has_recurrent_layers, prepacked
from mtrain.runtime.precision import Precision
from mtrain.text.tokenizer import TokenizerPair


def torch_engine(
    model: TranslationModel, config: Config, tokenizers: TokenizerPair, precision: Precision
) -> TorchEngine:
    """Return an engine over the model's present weights; later changes may not reach it."""
    autocast = precision.autocast
    if precision.prepacks_weights:
        model, autocast = prepacked(model, precision.type), nullcontext
    return TorchEngine(
        model,
        tokenizers,
        config.decoding,
        precision.device,
        autocast,
        config.seed,
        alignment_head(config),
    )


def searches_with_mkl(model: Model, precision: Precision) -> bool:
    """Tell whether MKL should compute the products that remain beside prepacked weights."""
    return precision.prepacks_weights and not has_recurrent_layers(model)

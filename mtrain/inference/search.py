"""Our own search engine over a model, its weights in the layout that is multiplied fastest."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from torch import nn

from mtrain.config import Config
from mtrain.decoding.engine import TorchEngine
from mtrain.decoding.source_features import SourceFeatures
from mtrain.models import SearchedModel, alignment_head
from mtrain.nn.prepacked import has_recurrent_layers, prepacked
from mtrain.runtime.precision import Precision
from mtrain.text.tokenizer import TokenizerPair

SomeModel = TypeVar("SomeModel", bound=nn.Module)


def torch_engine(
    model: SearchedModel,
    config: Config,
    tokenizers: TokenizerPair,
    precision: Precision,
    source_features: SourceFeatures | None = None,
) -> TorchEngine:
    """Return an engine over the model's present weights; later changes may not reach it."""
    model, autocast = ready(model, precision)
    return TorchEngine(
        model,
        tokenizers,
        config.decoding,
        precision.device,
        autocast,
        config.seed,
        alignment_head(config),
        source_features,
    )


def ready(
    model: SomeModel, precision: Precision
) -> tuple[SomeModel, Callable[[], AbstractContextManager[None]]]:
    """Return a model with its weights in the fastest layout, and the context to run it in."""
    if precision.prepacks_weights:
        return prepacked(model, precision.type), nullcontext
    return model, precision.autocast


def searches_with_mkl(model: nn.Module, precision: Precision) -> bool:
    """Tell whether MKL should compute the products that remain beside prepacked weights."""
    return precision.prepacks_weights and not has_recurrent_layers(model)

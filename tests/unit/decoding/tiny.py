"""A tiny model with random weights, and plain ways to search it that share no code with mtrain's.

The plain ways ask `forward` for one target prefix at a time: no cache, no batch, no tensors.
"""

from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from mtrain.config.model import TransformerConfig
from mtrain.data.batch import PairBatch
from mtrain.decoding.hypothesis import Marks
from mtrain.models.base import State
from mtrain.models.transformer import Transformer, TransformerState
from tests.in_process import BOS_ID, EOS_ID, make_batch

MARKS = Marks((BOS_ID,), EOS_ID)


def tiny_model(vocab_size: int, seed: int = 1, sharpness: float = 1.0) -> Transformer:
    """Return a model whose distributions are the peakier the larger `sharpness`."""
    torch.manual_seed(seed)
    config = TransformerConfig(
        encoder_layers=1,
        decoder_layers=1,
        d_model=16,
        num_heads=2,
        ffn_dim=16,
        max_positions=64,
        tie_embeddings="none",
    )
    model = Transformer(config, 20, vocab_size).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        model.output.weight.mul_(sharpness)
    return model


class CountingModel(Transformer):
    """Notes how many sentences each step is asked about."""

    rows_per_step: list[int]

    def step_features(self, tokens: Tensor, state: State) -> tuple[Tensor, TransformerState]:
        self.rows_per_step.append(len(tokens))
        return super().step_features(tokens, state)


def sources(lengths: list[int], seed: int = 1) -> PairBatch:
    """Return random sources of the lengths, end marks included."""
    return make_batch([(length, 1) for length in lengths], 20, 20, seed)


def make_rows(batch: PairBatch, rows: list[int]) -> PairBatch:
    """Return a batch of some of its pairs, in another order or repeated."""
    chosen = {key: value[rows] for key, value in vars(batch).items() if isinstance(value, Tensor)}
    return replace(batch, **chosen)


class Oracle:
    """Log probabilities of one source's target tokens, asked for prefix by prefix."""

    def __init__(self, model: Transformer, source: Tensor) -> None:
        alone = sources([len(source)])
        self._batch = replace(alone, source=source[None])
        self._model = model
        self.next = cache(self._next)

    @torch.inference_mode()
    def _next(self, prefix: tuple[int, ...]) -> list[float]:
        """Return the log probability of each token after the prefix."""
        tokens = torch.tensor([[BOS_ID, *prefix]])
        lengths = torch.tensor([tokens.shape[1]])
        batch = replace(self._batch, target_in=tokens, target_lengths=lengths)
        values: list[float] = self._model.logits(batch)[0, -1].double().log_softmax(0).tolist()
        return values


def oracles(model: Transformer, batch: PairBatch) -> list[Oracle]:
    """Return one for each source."""
    return [
        Oracle(model, source[:length])
        for source, length in zip(batch.source, batch.source_lengths.tolist(), strict=True)
    ]

"""Forced decoding: the attention of a model while it reads a given target.

Depends on the model contract only; works on ids.

Shapes: T target tokens, S source tokens, both with the end mark.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch

from mtrain.data.makers.padded import pad_pairs
from mtrain.data.plan import plan_in_order
from mtrain.data.store import FloatArray
from mtrain.decoding.source_features import SourceFeatures, features_of
from mtrain.models.base import Head, TranslationModel
from mtrain.text.tokenizer import TokenizerPair

IdPair = tuple[Sequence[int], Sequence[int]]


class ForcedDecoder:
    """Computes the attention of a model on given pairs of ids.

    Raises `UserError` if the model has no attention over the source, or no such layer or head.
    """

    def __init__(
        self,
        model: TranslationModel,
        tokenizers: TokenizerPair,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[None]],
        batch_tokens: int,
        head: Head,
        source_features: SourceFeatures | None = None,
    ) -> None:
        self._model = model.eval()
        self._tokenizers = tokenizers
        self._device = device
        self._autocast = autocast
        self._batch_tokens = batch_tokens
        self._head = head
        self._source_features = source_features
        model.layer_of(head)

    @property
    def max_ids(self) -> int:
        """Most ids of a side that the model can read, without the end mark."""
        return self._model.max_positions - 1

    def alignments(
        self, pairs: Sequence[IdPair], texts: Sequence[str] = ()
    ) -> Iterator[tuple[int, FloatArray]]:
        """Yield, in any order, each pair's index and weights (T,S), target over source.

        `texts` are those of the sources, for a model that reads features of them.
        """
        source_lengths, target_lengths = (
            np.array([len(pair[side]) + 1 for pair in pairs], dtype=np.int64) for side in (0, 1)
        )
        for rows in plan_in_order(source_lengths, target_lengths, self._batch_tokens):
            features = features_of(self._source_features, texts, rows)
            batch = pad_pairs([pairs[row] for row in rows], self._tokenizers, features)
            batch = batch.to(self._device)
            with torch.inference_mode(), self._autocast():
                weights = self._model.alignment(batch, self._head).float().cpu().numpy()
            for place, row in enumerate(rows.tolist()):
                yield row, weights[place, : target_lengths[row], : source_lengths[row]]

    @torch.inference_mode()
    def attention(self, pair: IdPair, text: str = "") -> dict[str, FloatArray]:
        """Return the attention of one pair by kind, shape (layers, heads, rows, columns).

        `text` is that of its source.
        """
        features = features_of(self._source_features, [text], [0])
        batch = pad_pairs([pair], self._tokenizers, features).to(self._device)
        with self._autocast():
            noted = self._model.attention(batch)
        return {kind: weights[0].float().cpu().numpy() for kind, weights in noted.items()}

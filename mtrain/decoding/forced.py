"""Forced decoding: what a model attends to as it is made to write a given target.

Knows the model contract, no model by name; works on ids.

Shapes: T target tokens, S source tokens, both with the end mark.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch

from mtrain.data.makers.padded import pad_pairs
from mtrain.data.plan import plan_in_order
from mtrain.data.store import FloatArray
from mtrain.models.base import Head, TranslationModel
from mtrain.text.tokenizer import TokenizerPair

IdPair = tuple[Sequence[int], Sequence[int]]


class ForcedDecoder:
    """A model with what it needs to be led through given pairs of ids.

    Raises `UserError` where the model has no such attention, layer or head.
    """

    def __init__(
        self,
        model: TranslationModel,
        tokenizers: TokenizerPair,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[None]],
        batch_tokens: int,
        head: Head,
    ) -> None:
        self._model = model.eval()
        self._tokenizers = tokenizers
        self._device = device
        self._autocast = autocast
        self._batch_tokens = batch_tokens
        self._head = head
        model.layer_of(head)

    @property
    def max_ids(self) -> int:
        """The longest side that the model can read, without its end mark."""
        return self._model.max_positions - 1

    def alignments(self, pairs: Sequence[IdPair]) -> Iterator[tuple[int, FloatArray]]:
        """Yield, in no order, the number of each pair and how strongly each of its target tokens
        attends to each of the source, (T,S)."""
        source_lengths, target_lengths = (
            np.array([len(pair[side]) + 1 for pair in pairs], dtype=np.int64) for side in (0, 1)
        )
        for rows in plan_in_order(source_lengths, target_lengths, self._batch_tokens):
            batch = pad_pairs([pairs[row] for row in rows], self._tokenizers).to(self._device)
            with torch.inference_mode(), self._autocast():
                weights = self._model.alignment(batch, self._head).float().cpu().numpy()
            for place, row in enumerate(rows.tolist()):
                yield row, weights[place, : target_lengths[row], : source_lengths[row]]

    @torch.inference_mode()
    def attention(self, pair: IdPair) -> dict[str, FloatArray]:
        """Return every weight of one pair by kind, shape (layers, heads, rows, columns)."""
        batch = pad_pairs([pair], self._tokenizers).to(self._device)
        with self._autocast():
            noted = self._model.attention(batch)
        return {kind: weights[0].float().cpu().numpy() for kind, weights in noted.items()}

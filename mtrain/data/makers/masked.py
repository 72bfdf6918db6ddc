"""Masked batches: packed texts, of which a share of the tokens is masked (Devlin et al. 2019).

Several texts stand in a row, so that hardly anything is filler, and each attends to itself alone.
A pair of the store is a text, or two that are read together: a sentence and its translation
(Lample and Conneau 2019, TLM), each with positions of its own. What is masked follows from
(seed, epoch, batch), so it differs between epochs and not between runs.

Shapes: R rows, L the row width, K masked tokens a row.
"""

import math
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch

from mtrain.config.run import Config
from mtrain.data.batch import MaskedBatch
from mtrain.data.makers.base import Maker
from mtrain.data.makers.packed import (
    MULTIPLE,
    NO_PAIR,
    NO_SENTENCE,
    WIDTH,
    PackedRows,
    Shape,
    plan_packed,
)
from mtrain.data.plan import derive_seed
from mtrain.data.store import Column, IntArray
from mtrain.nn.output import IGNORE_INDEX
from mtrain.text.tokenizer import Tokenizer

MASKED, RANDOM = 0.8, 0.1  # shares of the tokens to predict; the others stay as they are


class MaskedMaker(Maker):
    """Turns rows of a store into masked batches."""

    kind = "masked"

    def __init__(
        self,
        first: Column,
        second: Column,
        tokenizer: Tokenizer,
        config: Config,
    ) -> None:
        """Take both sides of texts; the second is empty but for pairs."""
        training = config.training
        self._first, self._second = first, second
        self._eos_id = tokenizer.eos_id
        self._mask_id = tokenizer.mask_id
        prefixes = {tokenizer.id_of(piece) for piece in chain(*config.prefix_pieces)}
        words = set(tokenizer.ordinary_ids) - {self._mask_id} - prefixes
        self._words = np.array(sorted(words))
        self._is_text = np.zeros(tokenizer.vocab_size, bool)  # ids that may be masked
        self._is_text[self._words] = True
        self._begins_word = np.array(tokenizer.is_word_start)
        self._share, self._whole_words = training.masked_share, training.mask_whole_words
        sides = first.lengths + 1, second.lengths
        self._lengths: IntArray = sides[0] + sides[1] + (sides[1] > 0)
        width = max(WIDTH, int(self._lengths.max()))
        width = -(-width // MULTIPLE) * MULTIPLE
        self._shape = Shape(max(1, training.batch_tokens // width), width, width)
        self._most_masked = max(1, math.ceil(self._share * width))

    def plan(self, rows: IntArray, seed: int, epoch: int) -> list[IntArray]:
        """Return the planned batches of an epoch of `rows`, each an argument for `make`."""
        lengths = self._lengths[rows]
        plan = plan_packed(lengths, lengths, self._shape, seed, epoch)
        return [np.where(pairs == NO_PAIR, NO_PAIR, rows[pairs]) for pairs in plan]

    def plan_in_order(self, rows: IntArray) -> list[IntArray]:
        """Return the planned batches of one deterministic pass over `rows`."""
        return self.plan(rows, 0, 0)

    def largest(self, plan: list[IntArray]) -> MaskedBatch:
        """Return the first batch: all have the same shape."""
        return self.make(plan[0])

    def make(self, rows: IntArray, seed: int = 0) -> MaskedBatch:
        """Return the batch of planned rows (R,K'); `seed` decides what is masked."""
        packed = PackedRows.of_texts(
            self._first, self._second, rows, self._shape.source, self._eos_id
        )
        random = np.random.default_rng(derive_seed(seed, "masks"))
        masked, is_masked = self._choose(packed, random)
        of_row = np.arange(len(masked))[:, None]
        targets = np.where(is_masked, packed.ids[of_row, masked], IGNORE_INDEX)
        draws = random.random(masked.shape)
        words = self._words[random.integers(len(self._words), size=masked.shape)]
        replaced = np.where(draws < MASKED, self._mask_id, words)
        is_replaced = is_masked & (draws < MASKED + RANDOM)
        tokens = packed.ids.copy()
        changed = np.nonzero(is_replaced)
        tokens[changed[0], masked[changed]] = replaced[changed]
        sentences = np.where(packed.is_filler, NO_SENTENCE, packed.sentences)
        arrays = {"tokens": tokens, "sentences": sentences, "positions": packed.positions,
                  "masked": masked, "targets": targets}  # fmt: skip
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return MaskedBatch(**tensors, num_target_tokens=int(is_masked.sum()))

    def _choose(
        self, packed: PackedRows, random: np.random.Generator
    ) -> tuple[IntArray, npt.NDArray[np.bool_]]:
        """Return the places to predict (R,K), and which of them count; some rows have fewer.

        Takes words in a random order, each with all its tokens, as long as they fit the share.
        """
        is_text = self._is_text[packed.ids] & ~packed.is_filler
        begins = np.ones_like(is_text)
        if self._whole_words:
            begins = self._begins_word[packed.ids] | ~is_text | (packed.positions == 0)
        words = begins.cumsum(axis=1) - 1  # number of each token's word in its row
        keys = np.where(is_text, np.take_along_axis(random.random(is_text.shape), words, 1), 2.0)
        order = np.argsort(keys, axis=1, kind="stable")
        in_order = np.take_along_axis(keys, order, 1)
        num_text = is_text.sum(axis=1, keepdims=True)
        count = np.minimum(np.maximum(1, np.round(self._share * num_text).astype(int)), num_text)
        counts = np.arange(self._most_masked) < count
        if self._whole_words:  # leave out a last word that does not fit, unless it is the only one
            last, following = (
                np.take_along_axis(in_order, np.minimum(place, in_order.shape[1] - 1), 1)
                for place in (count - 1, count)
            )
            is_cut = (following == last) & (in_order[:, :1] != last)
            counts &= ~(is_cut & (in_order[:, : self._most_masked] == last))
        return order[:, : self._most_masked], counts

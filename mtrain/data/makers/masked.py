"""Masked batches: packed texts with a share of their tokens masked (Devlin et al. 2019).

Several texts stand in a row, so that hardly anything is filler, and each attends to itself alone.
A pair of the store is a text, or two that are read together: a sentence and its translation
(Lample and Conneau 2019, TLM). Positions run on over both, which no language embedding tells
apart. What is masked follows from (seed, epoch, batch): it differs between epochs, not between
runs.

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

Marks = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
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

    @property
    def longest(self) -> int:
        """Tokens of the longest text, end marks included."""
        return int(self._lengths.max())

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

    def _choose(self, packed: PackedRows, random: np.random.Generator) -> tuple[IntArray, Marks]:
        """Return the places to predict (R,K), and which of them count; some rows have fewer."""
        is_text = self._is_text[packed.ids] & ~packed.is_filler
        draws, num_text = random.random(is_text.shape), is_text.sum(axis=1, keepdims=True)
        count = np.minimum(np.maximum(1, np.round(self._share * num_text).astype(int)), num_text)
        if self._whole_words:
            is_chosen = self._choose_words(packed, is_text, draws, count[:, 0])
            count = is_chosen.sum(axis=1, keepdims=True)
            keys = np.where(is_chosen, 0.0, 1.0)
        else:
            keys = np.where(is_text, draws, 2.0)
        order = np.argsort(keys, axis=1, kind="stable")[:, : self._most_masked]
        return order, np.arange(self._most_masked) < count

    def _choose_words(
        self, packed: PackedRows, is_text: Marks, draws: FloatArray, count: IntArray
    ) -> Marks:
        """Return the tokens (R,L) of the words to predict: `count` (R,) or a few less in a row.

        Takes words in a random order, each that fits, and the first one in any case. Splits words
        of more tokens than K, as a sentence is in a script without spaces.
        """
        begins = self._begins_word[packed.ids] | ~is_text | (packed.positions == 0)
        rows = np.arange(len(begins))[:, None]
        for _ in range(2):
            words = begins.cumsum(axis=1) - 1  # number of each token's word in its row
            sizes = np.zeros_like(words)
            np.add.at(sizes, (rows, words), is_text)
            begins |= sizes[rows, words] > self._most_masked
        is_chosen = np.zeros_like(is_text)  # by word
        total = np.zeros_like(count)
        for of_rows in np.argsort(np.where(sizes > 0, draws, 2.0), axis=1).T:
            size = sizes[rows[:, 0], of_rows]
            fits = (size > 0) & ((total + size <= count) | (total == 0))
            is_chosen[rows[:, 0], of_rows] = fits
            total += size * fits
        of_tokens: Marks = is_chosen[rows, words] & is_text
        return of_tokens

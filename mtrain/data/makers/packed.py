"""Sequence packing: several sentences in a row, rows of one width, batches of one shape.

A GPU is fast where it does the same again and again and nothing for padding (Krell et al. 2021).
A pair's two sentences are in rows of the same number; attention is told which sentence each
token is of. All batches have the same shape, whatever is in them.

Shapes: R rows, S and T their widths, K most sentences of a row, N pairs.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from mtrain.data.batch import Batch, PackedBatch
from mtrain.data.makers.padded import BatchMaker
from mtrain.data.plan import derive_seed
from mtrain.data.store import Column, IntArray, TokenStore
from mtrain.nn.output import IGNORE_INDEX
from mtrain.text.tokenizer import TokenizerPair

NO_PAIR = NO_SENTENCE = -1  # in place of a number where a row has no further pair or sentence
WIDTH = 128  # tokens of a row, about; attention costs as much as a row is wide
MULTIPLE = 8  # of widths: what attention's kernels ask for


@dataclass(frozen=True)
class Shape:
    """The shape of packed batches."""

    rows: int
    source: int  # width of rows of source tokens
    target: int


def fit_shape(source_lengths: IntArray, target_lengths: IntArray, batch_tokens: int) -> Shape:
    """Return the shape that pairs of these lengths fill on both sides."""
    totals = np.array([source_lengths.sum(), target_lengths.sum()])
    longest = np.array([source_lengths.max(), target_lengths.max()])
    widths = np.maximum(longest, max(WIDTH, *longest) * totals / totals.max())
    source, target = (int(-(-width // MULTIPLE) * MULTIPLE) for width in widths)
    return Shape(max(1, batch_tokens // max(source, target)), source, target)


def plan_packed(
    source_lengths: IntArray, target_lengths: IntArray, shape: Shape, seed: int, epoch: int
) -> list[IntArray]:
    """Return the batches of an epoch in order, each the pairs (R,K) of its rows, some NO_PAIR.

    A batch's pairs are drawn at random. Sorted by length they are dealt to the rows to and fro, so
    that all rows are about as full; what is too much for a row comes first into the next batch.
    """
    random = np.random.default_rng(derive_seed(seed, "plan", epoch))
    order: IntArray = random.permutation(len(source_lengths))
    start, left = 0, order[:0]  # what is drawn next of the order, and what did not fit before
    sides = ((source_lengths, shape.source), (target_lengths, shape.target))
    most = shape.rows * max(shape.source, shape.target)  # pairs that could be drawn
    batches = []
    while len(left) or start < len(order):
        waiting = np.concatenate([left, order[start : start + most]])
        count = min(
            int(np.searchsorted(lengths[waiting].cumsum(), shape.rows * width, "right"))
            for lengths, width in sides
        )
        drawn = waiting[:count]
        start += count - len(left)  # which was in a batch once: there is room for all of it
        pairs = _deal(drawn[np.argsort(-(source_lengths + target_lengths)[drawn])], shape.rows)
        real = pairs != NO_PAIR
        fits = real.copy()
        for lengths, width in sides:
            fits &= np.where(real, lengths[pairs], 0).cumsum(axis=1) <= width
        left = pairs[real & ~fits]
        batches.append(np.where(fits, pairs, NO_PAIR))
    return batches


def _deal(pairs: IntArray, num_rows: int) -> IntArray:
    """Return pairs (N,) as (R,K'), the first column downwards, the next one upwards."""
    num_columns = -(-len(pairs) // num_rows)
    columns = np.full((num_columns, num_rows), NO_PAIR)
    columns.reshape(-1)[: len(pairs)] = pairs
    columns[1::2] = columns[1::2, ::-1].copy()
    rows: IntArray = columns.T
    return rows


@dataclass(frozen=True)
class _Rows:
    """One side's tokens in rows (R,W)."""

    ids: IntArray
    sentences: IntArray  # of each token, the number of its sentence in the row
    positions: IntArray  # in it
    is_filler: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, side: Column, pairs: IntArray, width: int, eos_id: int) -> "_Rows":
        """Return the sentences (R,K) of a side, each with its end mark."""
        starts_in_store = side.offsets[pairs]
        lengths = np.where(pairs == NO_PAIR, 0, side.offsets[pairs + 1] - starts_in_store + 1)
        ends = lengths.cumsum(axis=1)
        places = np.arange(width)
        sentences = (ends[:, :, None] <= places).sum(axis=1)
        is_filler = places >= ends[:, -1:]
        of_row = np.arange(len(pairs))[:, None], np.where(is_filler, 0, sentences)
        positions = np.where(is_filler, 0, places - (ends - lengths)[of_row])
        is_text = ~is_filler & (positions < lengths[of_row] - 1)
        ids = np.full(is_text.shape, eos_id)
        ids[is_text] = side.tokens[(starts_in_store[of_row] + positions)[is_text]]
        return cls(ids, sentences, positions, is_filler)


class PackedMaker(BatchMaker):
    """Turns rows of pairs of a store into packed batches."""

    kind = "packed"

    def __init__(
        self, store: TokenStore, tokenizers: TokenizerPair, max_tokens: int, batch_tokens: int
    ) -> None:
        super().__init__(store, tokenizers, max_tokens, batch_tokens)
        self._shape = fit_shape(*self._lengths, batch_tokens)

    def plan(self, seed: int, epoch: int) -> list[IntArray]:
        """Return the batches of an epoch of the store, as `make` takes them."""
        return plan_packed(*self._lengths, self._shape, seed, epoch)

    def largest(self, plan: list[IntArray]) -> Batch:
        """Return one like all others."""
        return self.make(plan[0])

    def make(self, rows: IntArray, seed: int = 0) -> PackedBatch:
        """Return the batch of a plan's pairs (R,K)."""
        tokenizers, shape = self._tokenizers, self._shape
        source = _Rows.of(self._store.source, rows, shape.source, tokenizers.source.eos_id)
        target = _Rows.of(self._store.target, rows, shape.target, tokenizers.target.eos_id)
        target_in = np.roll(target.ids, 1, axis=1)
        target_in[target.positions == 0] = tokenizers.target.bos_id
        target_out = np.where(target.is_filler, IGNORE_INDEX, target.ids)
        # what fills up a row of the target sees what the last sentence sees
        last = np.where(target.is_filler, NO_SENTENCE, target.sentences).max(axis=1, keepdims=True)
        arrays = {
            "source": source.ids,
            "source_lengths": (~source.is_filler).sum(axis=1),
            "target_in": target_in,
            "target_out": target_out,
            "target_lengths": (~target.is_filler).sum(axis=1),
            "source_sentences": np.where(source.is_filler, NO_SENTENCE, source.sentences),
            "target_sentences": np.where(target.is_filler, last, target.sentences),
            "source_positions": source.positions,
            "target_positions": target.positions,
        }
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return PackedBatch(**tensors, num_target_tokens=int((~target.is_filler).sum()))

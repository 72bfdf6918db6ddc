"""Sequence packing (Krell et al. 2021): several sentences in a row, batches of one static shape.

Packing avoids padding, and a static shape lets a GPU replay an update as a CUDA graph.
A pair's source and target are in rows of the same index. Sentence indices restrict attention to
tokens of one sentence pair.

Shapes: R rows, S and T the row widths, K the most sentences in a row, N pairs.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from mtrain.data.batch import PackedBatch, PairBatch
from mtrain.data.makers.padded import BatchMaker
from mtrain.data.plan import derive_seed
from mtrain.data.store import Column, IntArray, TokenStore
from mtrain.nn.output import IGNORE_INDEX
from mtrain.text.tokenizer import TokenizerPair

NO_PAIR = NO_SENTENCE = -1  # index where a row has no further pair or sentence
WIDTH = 128  # approximate tokens in a row; a token's attention cost grows with the row width
MULTIPLE = 8  # row widths are multiples of this, as attention kernels require


@dataclass(frozen=True)
class Shape:
    """The static shape of packed batches."""

    rows: int
    source: int  # width of source rows
    target: int


def fit_shape(source_lengths: IntArray, target_lengths: IntArray, batch_tokens: int) -> Shape:
    """Return a shape that pairs of these lengths fill equally on both sides."""
    totals = np.array([source_lengths.sum(), target_lengths.sum()])
    longest = np.array([source_lengths.max(), target_lengths.max()])
    widths = np.maximum(longest, max(WIDTH, *longest) * totals / totals.max())
    source, target = (int(-(-width // MULTIPLE) * MULTIPLE) for width in widths)
    return Shape(max(1, batch_tokens // max(source, target)), source, target)


def plan_packed(
    source_lengths: IntArray, target_lengths: IntArray, shape: Shape, seed: int, epoch: int
) -> list[IntArray]:
    """Return the batches of an epoch in order, each the pairs (R,K) of its rows, some NO_PAIR.

    Draws a batch's pairs at random, sorts them by length and deals them to the rows to and fro, so
    that rows are about equally full. Pairs that overflow a row go first into the next batch.
    """
    random = np.random.default_rng(derive_seed(seed, "plan", epoch))
    order: IntArray = random.permutation(len(source_lengths))
    start, left = 0, order[:0]  # next position in the order; pairs that overflowed
    sides = ((source_lengths, shape.source), (target_lengths, shape.target))
    most = shape.rows * max(shape.source, shape.target)  # upper bound of pairs per batch
    batches = []
    while len(left) or start < len(order):
        waiting = np.concatenate([left, order[start : start + most]])
        count = min(
            int(np.searchsorted(lengths[waiting].cumsum(), shape.rows * width, "right"))
            for lengths, width in sides
        )
        drawn = waiting[:count]
        start += count - len(left)  # `left` is drawn in full: it was part of a batch before
        pairs = _deal(drawn[np.argsort(-(source_lengths + target_lengths)[drawn])], shape.rows)
        real = pairs != NO_PAIR
        fits = real.copy()
        for lengths, width in sides:
            fits &= np.where(real, lengths[pairs], 0).cumsum(axis=1) <= width
        left = pairs[real & ~fits]
        batches.append(np.where(fits, pairs, NO_PAIR))
    return batches


def _deal(pairs: IntArray, num_rows: int) -> IntArray:
    """Return pairs (N,) as (R,K'), filling columns downwards and upwards in turn."""
    num_columns = -(-len(pairs) // num_rows)
    columns = np.full((num_columns, num_rows), NO_PAIR)
    columns.reshape(-1)[: len(pairs)] = pairs
    columns[1::2] = columns[1::2, ::-1].copy()
    rows: IntArray = columns.T
    return rows


@dataclass(frozen=True)
class PackedRows:
    """The packed tokens of one side; every field is (R,W)."""

    ids: IntArray
    sentences: IntArray  # index of the token's sentence in its row
    positions: IntArray  # position of the token in its sentence
    is_filler: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, side: Column, pairs: IntArray, width: int, eos_id: int) -> "PackedRows":
        """Pack one side of pairs (R,K), each sentence with its end mark."""
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

    @classmethod
    def of_texts(
        cls, first: Column, second: Column, pairs: IntArray, width: int, eos_id: int
    ) -> "PackedRows":
        """Pack both sides of pairs (R,K) one after the other as one sentence, each with end mark.

        Positions run on over both sides, which nothing else tells apart. A pair whose second side
        is empty has no second end mark.
        """
        is_pair = pairs != NO_PAIR
        lengths = [np.where(is_pair, side.offsets[pairs + 1] - side.offsets[pairs], 0)
                   for side in (first, second)]  # fmt: skip
        sizes = np.stack([lengths[0] + is_pair, lengths[1] + (lengths[1] > 0)], axis=2)
        sizes = sizes.reshape(len(pairs), -1)  # of the parts: both sides of each pair in turn
        ends = sizes.cumsum(axis=1)
        places = np.arange(width)
        parts = (ends[:, :, None] <= places).sum(axis=1)
        is_filler = places >= ends[:, -1:]
        of_row = np.arange(len(pairs))[:, None], np.where(is_filler, 0, parts)
        in_part = np.where(is_filler, 0, places - (ends - sizes)[of_row])
        is_text = ~is_filler & (in_part < sizes[of_row] - 1)
        ids = np.full(is_text.shape, eos_id)
        sentences, is_second = parts // 2, parts % 2 == 1
        for side, is_side in ((first, ~is_second), (second, is_second)):
            here = is_text & is_side
            rows, columns = np.nonzero(here)
            starts = side.offsets[pairs[rows, sentences[rows, columns]]]
            ids[here] = side.tokens[starts + in_part[here]]
        before = np.where(is_second & ~is_filler, sizes[of_row[0], of_row[1] - 1], 0)
        return cls(ids, sentences, in_part + before, is_filler)


class PackedMaker(BatchMaker):
    """Turns planned rows of pairs into packed batches."""

    kind = "packed"

    def __init__(
        self, store: TokenStore, tokenizers: TokenizerPair, max_tokens: int, batch_tokens: int
    ) -> None:
        super().__init__(store, tokenizers, max_tokens, batch_tokens)
        self._shape = fit_shape(*self._lengths, batch_tokens)

    def plan(self, rows: IntArray, seed: int, epoch: int) -> list[IntArray]:
        """Return the planned batches of an epoch of `rows`, each an argument for `make`."""
        source, target = (side[rows] for side in self._lengths)
        plan = plan_packed(source, target, self._shape, seed, epoch)
        return [np.where(pairs == NO_PAIR, NO_PAIR, rows[pairs]) for pairs in plan]

    def largest(self, plan: list[IntArray]) -> PairBatch:
        """Return the first batch: all have the same shape."""
        return self.make(plan[0])

    def make(self, rows: IntArray, seed: int = 0) -> PackedBatch:
        """Return the batch of planned pairs (R,K)."""
        tokenizers, shape = self._tokenizers, self._shape
        source = PackedRows.of(self._store.source, rows, shape.source, tokenizers.source.eos_id)
        target = PackedRows.of(self._store.target, rows, shape.target, tokenizers.target.eos_id)
        target_in = np.roll(target.ids, 1, axis=1)
        target_in[target.positions == 0] = tokenizers.target.bos_id
        target_out = np.where(target.is_filler, IGNORE_INDEX, target.ids)
        # filler of a target row attends to what the row's last sentence attends to
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

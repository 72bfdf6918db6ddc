"""Batches: rows of a plan as tensors, made ahead of time in a thread.

Shapes: B pairs, S longest source, T longest target; both include the end mark.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from mtrain.data.plan import derive_seed, plan_epoch, plan_in_order
from mtrain.data.store import IntArray, TokenStore
from mtrain.text.tokenizer import TokenizerPair

SomeBatch = TypeVar("SomeBatch", bound="Batch")


@dataclass(frozen=True)
class Batch:
    """Sentence pairs for training: the decoder reads `target_in` and should say `target_out`."""

    source: Tensor  # (B,S) ids, then </s>, then padding
    source_lengths: Tensor  # (B,)
    target_in: Tensor  # (B,T) <s>, then ids, then padding
    target_out: Tensor  # (B,T) ids, then </s>, then padding
    target_lengths: Tensor  # (B,)
    num_target_tokens: int  # real ones, each </s> included
    # (B,T,S) how the links of each token of target_out spread over the source: a sum of 1 or 0
    links: Tensor | None = None

    def to(self: SomeBatch, device: torch.device) -> SomeBatch:
        """Copy to a device; from page-locked memory, without waiting for it."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self: SomeBatch) -> SomeBatch:
        """Copy into page-locked memory, from which a GPU can fetch by itself."""
        return self._map(Tensor.pin_memory)

    def _map(self: SomeBatch, function: Callable[[Tensor], Tensor]) -> SomeBatch:
        changed: dict[str, Any] = {name: function(value) for name, value in vars(self).items()
                   if isinstance(value, Tensor)}  # fmt: skip
        return replace(self, **changed)

    def split(self, parts: int) -> list["Batch"]:
        """Return the same pairs as up to `parts` smaller batches."""
        pieces = []
        for rows in torch.arange(len(self.source)).chunk(parts):
            cut = slice(int(rows[0]), int(rows[-1]) + 1)
            width = int(self.source_lengths[cut].max())
            height = int(self.target_lengths[cut].max())
            lengths = self.target_lengths[cut]
            pieces.append(
                Batch(
                    self.source[cut, :width],
                    self.source_lengths[cut],
                    self.target_in[cut, :height],
                    self.target_out[cut, :height],
                    lengths,
                    int(lengths.sum()),
                    None if self.links is None else self.links[cut, :height, :width],
                )
            )
        return pieces


class BatchMaker:
    """Turns row numbers of a store into batches."""

    kind = "padded"

    def __init__(
        self,
        store: TokenStore,
        tokenizers: TokenizerPair,
        max_tokens: int,
        batch_tokens: int,
        subword_sampling: float = 0.0,
    ) -> None:
        self._store = store
        self._tokenizers = tokenizers
        self._lengths = store.source.lengths + 1, store.target.lengths + 1
        self._max_tokens = max_tokens
        self._batch_tokens = batch_tokens
        self._sampling = subword_sampling

    def plan(self, seed: int, epoch: int) -> list[IntArray]:
        """Return the batches of an epoch of the store, as `make` takes them."""
        return plan_epoch(*self._lengths, self._batch_tokens, seed, epoch)

    def plan_in_order(self) -> list[IntArray]:
        """Return the batches of one pass without randomness."""
        return plan_in_order(*self._lengths, self._batch_tokens)

    def largest(self, plan: list[IntArray]) -> Batch:
        """Return the batch of a plan that takes most memory."""
        volumes = [
            len(rows) * sum(int(side[rows].max()) for side in self._lengths) for rows in plan
        ]
        return self.make(plan[int(np.argmax(volumes))])

    def make(self, rows: IntArray, seed: int = 0) -> Batch:
        """Return the batch of the pairs `rows`; `seed` matters to subword sampling only."""
        source_end, target_end = self._tokenizers.source.end_id, self._tokenizers.target.end_id
        start = self._tokenizers.target.start_id
        links = None  # they are of the stored tokens only
        if self._sampling:
            source, source_lengths = self._sample(rows, seed, "source")
            target, target_lengths = self._sample(rows, seed + 1, "target")
        else:
            sides = self._store.source, self._store.target
            source_lengths, target_lengths = (
                side.offsets[rows + 1] - side.offsets[rows] + 1 for side in sides
            )
            source, target = (
                side.padded(rows, end, int(lengths.max()))
                for side, end, lengths in zip(
                    sides, (source_end, target_end), (source_lengths, target_lengths), strict=True
                )
            )
            if self._store.links is not None:
                links = self._store.links.shares(rows, target.shape[1], source.shape[1])
        target_in = np.concatenate(
            [np.full((len(rows), 1), start, dtype=np.int64), target[:, :-1]], axis=1
        )
        return Batch(
            torch.from_numpy(source),
            torch.from_numpy(source_lengths),
            torch.from_numpy(target_in),
            torch.from_numpy(target),
            torch.from_numpy(target_lengths),
            int(target_lengths.sum()),
            None if links is None else torch.from_numpy(links),
        )

    def _sample(self, rows: IntArray, seed: int, name: str) -> tuple[IntArray, IntArray]:
        """Segment the sentences anew; one that grew too long keeps its stored segmentation."""
        side = getattr(self._store, name)
        tokenizer = getattr(self._tokenizers, name)
        stored = [side.sentence(row) for row in rows]
        sampled = tokenizer.sample(tokenizer.decode(stored), self._sampling, seed % (1 << 32))
        chosen = [
            new if len(new) < self._max_tokens else old
            for new, old in zip(sampled, stored, strict=True)
        ]
        lengths = np.array([len(ids) + 1 for ids in chosen], dtype=np.int64)
        padded = np.full((len(rows), int(lengths.max())), tokenizer.end_id, dtype=np.int64)
        for row, ids in enumerate(chosen):
            padded[row, : len(ids)] = ids
        return padded, lengths


def pad_pairs(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]], tokenizers: TokenizerPair
) -> Batch:
    """Return the batch of pairs of ids, given without marks."""
    source_end, target_end = tokenizers.source.end_id, tokenizers.target.end_id
    sources, targets = zip(*pairs, strict=True)
    target_in = [[tokenizers.target.start_id, *ids] for ids in targets]
    source_lengths, target_lengths = (
        torch.tensor([len(ids) + 1 for ids in side]) for side in (sources, targets)
    )
    return Batch(
        pad([[*ids, source_end] for ids in sources], source_end),
        source_lengths,
        pad(target_in, target_end),
        pad([[*ids, target_end] for ids in targets], target_end),
        target_lengths,
        int(target_lengths.sum()),
    )


def pad(rows: Sequence[Sequence[int]], padding: int) -> Tensor:
    """Return rows of ids as one tensor, (rows, longest), padded on the right."""
    width = max(map(len, rows))
    return torch.tensor([[*ids, *[padding] * (width - len(ids))] for ids in rows])


@dataclass(frozen=True)
class PlannedUpdate:
    """The batches of one update, and where in the plan the next update begins."""

    batches: list[Batch]
    next_epoch: int
    next_batch: int


def planned_updates(
    maker: BatchMaker,
    seed: int,
    accumulate: int,
    cursor: tuple[int, int],
    share: tuple[int, int],
) -> Iterator[PlannedUpdate]:
    """Yield updates for ever, from a cursor (epoch, batch) of the plan on.

    An update is `accumulate` batches. `share` is (rank, size) of this process, which gets every
    size-th batch of each update. An epoch's last update has the batches that are left.
    """
    rank, size = share
    epoch, start = cursor
    while True:
        plan = maker.plan(seed, epoch)
        while start < len(plan):
            end = min(start + accumulate, len(plan))
            batches = [
                maker.make(plan[number], derive_seed(seed, "subwords", epoch, number))
                for number in range(start + rank, end, size)
            ]
            start = end
            is_last = end == len(plan)
            yield PlannedUpdate(batches, epoch + is_last, 0 if is_last else end)
        epoch, start = epoch + 1, 0


T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Iterates over what a thread makes ahead; knows how long it was waited for."""

    DEPTH = 4

    def __init__(self, items: Iterable[T]) -> None:
        self._queue: queue.Queue[T | _Failure | None] = queue.Queue(self.DEPTH)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(items,), daemon=True)
        self._thread.start()
        self.seconds_waited = 0.0

    def __iter__(self) -> "Prefetcher[T]":
        return self

    def __next__(self) -> T:
        started = time.perf_counter()
        item = self._queue.get()
        self.seconds_waited += time.perf_counter() - started
        if item is None:
            raise StopIteration
        if isinstance(item, _Failure):
            raise item.error
        return item

    def close(self) -> None:
        """End the thread, whatever it was doing."""
        self._stopped.set()
        while self._thread.is_alive():
            with suppress(queue.Empty):
                self._queue.get(timeout=0.01)

    def _fill(self, items: Iterable[T]) -> None:
        try:
            for item in items:
                self._queue.put(item)
                if self._stopped.is_set():
                    return
            self._queue.put(None)
        except BaseException as error:  # raised where the items are used
            self._queue.put(_Failure(error))


@dataclass(frozen=True)
class _Failure:
    error: BaseException

"""Padded batches: pairs of similar lengths, each side padded to its longest sentence."""

from collections.abc import Collection, Sequence
from itertools import takewhile

import numpy as np
import torch
from torch import Tensor

from mtrain.data.batch import PairBatch, pad
from mtrain.data.makers.base import Maker
from mtrain.data.plan import plan_epoch, plan_in_order
from mtrain.data.store import IntArray, TokenStore
from mtrain.nn.feature_attention import Features
from mtrain.text.links import SIDES
from mtrain.text.tokenizer import Tokenizer, TokenizerPair


class BatchMaker(Maker):
    """Turns row indices of a store into batches."""

    kind = "padded"

    def __init__(
        self,
        store: TokenStore,
        tokenizers: TokenizerPair,
        max_tokens: int,
        batch_tokens: int,
        subword_sampling: float = 0.0,
        prefix_ids: tuple[Collection[int], Collection[int]] = ((), ()),
        with_features: bool = False,
    ) -> None:
        """Take the store and tokenizers without prefixes; `prefix_ids` may begin a stored side.

        With features, batches have the store's features of the sources. They have what a teacher
        expects of each target token wherever the store has it.
        """
        self._store = store
        self._tokenizers = tokenizers
        self._lengths = store.source.lengths + 1, store.target.lengths + 1
        self._max_tokens = max_tokens
        self._batch_tokens = batch_tokens
        self._sampling = subword_sampling
        self._prefix_ids = dict(zip(SIDES, prefix_ids, strict=True))
        self._whole_ids = {side: _whole_ids(getattr(tokenizers, side), bool(tokenizers.protection))
                           for side in SIDES}  # fmt: skip
        self._features = store.features if with_features else None

    def plan(self, rows: IntArray, seed: int, epoch: int) -> list[IntArray]:
        """Return the planned batches of an epoch of `rows`, each an argument for `make`."""
        source, target = (side[rows] for side in self._lengths)
        plan = plan_epoch(source, target, self._batch_tokens, seed, epoch)
        return [rows[batch] for batch in plan]

    def plan_in_order(self, rows: IntArray) -> list[IntArray]:
        """Return the planned batches of one deterministic pass over `rows`."""
        source, target = (side[rows] for side in self._lengths)
        return [rows[batch] for batch in plan_in_order(source, target, self._batch_tokens)]

    def largest(self, plan: list[IntArray]) -> PairBatch:
        """Return the batch of a plan that needs the most memory."""
        volumes = [
            len(rows) * sum(int(side[rows].max()) for side in self._lengths) for rows in plan
        ]
        return self.make(plan[int(np.argmax(volumes))])

    def make(self, rows: IntArray, seed: int = 0) -> PairBatch:
        """Return the batch of the pairs `rows`; `seed` affects subword sampling only."""
        source_eos, target_eos = self._tokenizers.source.eos_id, self._tokenizers.target.eos_id
        start = self._tokenizers.target.bos_id
        links = None  # links exist for the stored segmentation only
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
                    sides, (source_eos, target_eos), (source_lengths, target_lengths), strict=True
                )
            )
            if self._store.links is not None:
                links = self._store.links.shares(rows, target.shape[1], source.shape[1])
        target_in = np.concatenate(
            [np.full((len(rows), 1), start, dtype=np.int64), target[:, :-1]], axis=1
        )
        return PairBatch(
            source=torch.from_numpy(source),
            source_lengths=torch.from_numpy(source_lengths),
            target_in=torch.from_numpy(target_in),
            target_out=torch.from_numpy(target),
            target_lengths=torch.from_numpy(target_lengths),
            num_target_tokens=int(target_lengths.sum()),
            links=None if links is None else torch.from_numpy(links),
            **self._features_of(rows),
            **self._teacher_of(rows),
        )

    def _features_of(self, rows: IntArray) -> dict[str, Tensor]:
        if self._features is None:
            return {}
        states, lengths = map(torch.from_numpy, self._features.padded(rows))
        return {"features": states, "feature_lengths": lengths}

    def _teacher_of(self, rows: IntArray) -> dict[str, Tensor]:
        if self._store.teacher is None:
            return {}
        ids, log_probs = (column.padded(rows)[0] for column in self._store.teacher)
        return {
            "teacher_ids": torch.from_numpy(ids.astype(np.int64)),
            "teacher_log_probs": torch.from_numpy(log_probs),
        }

    def _sample(self, rows: IntArray, seed: int, name: str) -> tuple[IntArray, IntArray]:
        """Sample segmentations; a sentence that gets too long keeps its stored segmentation.

        So does one whose pieces of protected spans or between sentences, rarely, are split.
        Prefixes stay as they are.
        """
        side = getattr(self._store, name)
        tokenizer = getattr(self._tokenizers, name)
        whole = self._whole_ids[name].__contains__
        stored = [side.row(row) for row in rows]
        prefixes = [list(takewhile(self._prefix_ids[name].__contains__, row)) for row in stored]
        bare = [row[len(prefix) :] for row, prefix in zip(stored, prefixes, strict=True)]
        sampled = tokenizer.sample(tokenizer.decode(bare), self._sampling, seed % (1 << 32))
        chosen = [
            [*prefix, *new] if len(prefix) + len(new) < self._max_tokens
            and list(filter(whole, new)) == list(filter(whole, old)) else old
            for prefix, new, old in zip(prefixes, sampled, stored, strict=True)
        ]  # fmt: skip
        lengths = np.array([len(ids) + 1 for ids in chosen], dtype=np.int64)
        padded = np.full((len(rows), int(lengths.max())), tokenizer.eos_id, dtype=np.int64)
        for row, ids in enumerate(chosen):
            padded[row, : len(ids)] = ids
        return padded, lengths


def _whole_ids(tokenizer: Tokenizer, protects: bool) -> frozenset[int]:
    """Return the ids of the pieces that sampling must not split."""
    between = tokenizer.find_separator()
    found = frozenset() if between is None else frozenset([between])
    return found | tokenizer.protected_ids if protects else found


def pad_pairs(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    tokenizers: TokenizerPair,
    features: Features | None = None,
) -> PairBatch:
    """Return the batch of pairs of ids without marks; add the marks, and the sources' features."""
    source_eos, target_eos = tokenizers.source.eos_id, tokenizers.target.eos_id
    sources, targets = zip(*pairs, strict=True)
    target_in = [[tokenizers.target.bos_id, *ids] for ids in targets]
    source_lengths, target_lengths = (
        torch.tensor([len(ids) + 1 for ids in side]) for side in (sources, targets)
    )
    return PairBatch(
        source=pad([[*ids, source_eos] for ids in sources], source_eos),
        source_lengths=source_lengths,
        target_in=pad(target_in, target_eos),
        target_out=pad([[*ids, target_eos] for ids in targets], target_eos),
        target_lengths=target_lengths,
        num_target_tokens=int(target_lengths.sum()),
        features=None if features is None else features.states,
        feature_lengths=None if features is None else features.lengths,
    )

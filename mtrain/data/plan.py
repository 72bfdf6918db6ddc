"""The batch plan: which sentence pairs form a batch, and the order of the batches.

A pure function of (lengths, seed, epoch, token budget): a run resumes from a cursor without
replaying the epoch, and the order does not depend on the number of processes.
"""

import hashlib

import numpy as np

from mtrain.data.store import IntArray


def derive_seed(*parts: int | str) -> int:
    """Return a 63-bit hash of all parts, to derive independent random streams from one seed."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def plan_epoch(
    source_lengths: IntArray, target_lengths: IntArray, batch_tokens: int, seed: int, epoch: int
) -> list[IntArray]:
    """Return the batches of an epoch in order, each as the row indices of its pairs.

    Lengths count the end mark. Every pair is in one batch. Pairs of a batch have similar lengths
    on both sides. Each epoch breaks ties and orders the batches at random. No side of a batch
    exceeds `batch_tokens`, padding included, unless the batch is a single pair.
    """
    random = np.random.default_rng(derive_seed(seed, "plan", epoch))
    shuffled = random.permutation(len(source_lengths))
    order = shuffled[_by_lengths(source_lengths[shuffled], target_lengths[shuffled])]
    batches = _cut(order, source_lengths[order], target_lengths[order], batch_tokens)
    return [batches[index] for index in random.permutation(len(batches))]


def plan_in_order(
    source_lengths: IntArray, target_lengths: IntArray, batch_tokens: int
) -> list[IntArray]:
    """Return the batches of one deterministic pass for validation, longest pairs first."""
    order = _by_lengths(source_lengths, target_lengths)[::-1]
    return _cut(order, source_lengths[order], target_lengths[order], batch_tokens)


def _by_lengths(source_lengths: IntArray, target_lengths: IntArray) -> IntArray:
    """Return the row indices, sorted so that neighbours are similar in both lengths.

    Sorts by the longer side, the width in a batch. Within a width, sorts by target minus source
    length, ascending for odd widths and descending for even ones, so that neighbours stay similar.
    """
    width = np.maximum(source_lengths, target_lengths)
    slope = target_lengths - source_lengths
    return np.lexsort((np.where(width % 2, slope, -slope), width))


def _cut(
    order: IntArray, source_lengths: IntArray, target_lengths: IntArray, batch_tokens: int
) -> list[IntArray]:
    batches, start, width = [], 0, 0
    longer = np.maximum(source_lengths, target_lengths).tolist()
    for row, length in enumerate(longer):
        wider = max(width, length)
        if row > start and wider * (row + 1 - start) > batch_tokens:
            batches.append(order[start:row])
            start, wider = row, length
        width = wider
    if start < len(order):
        batches.append(order[start:])
    return batches

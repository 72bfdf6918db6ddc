"""The batch plan: which sentence pairs are trained together, and in which order.

A pure function of (lengths, seed, epoch, token budget), so that going on after a stop needs a
cursor and no replay, and the order does not depend on how many processes share the work.
"""

import hashlib

import numpy as np

from mtrain.data.store import IntArray


def derive_seed(*parts: int | str) -> int:
    """Return 63 bits that depend on every part: independent streams from one seed."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def plan_epoch(
    source_lengths: IntArray, target_lengths: IntArray, batch_tokens: int, seed: int, epoch: int
) -> list[IntArray]:
    """Return the batches of an epoch in order, each the row numbers of its pairs.

    Lengths count the end mark. Every pair is in one batch. Pairs of a batch have similar lengths
    on both sides; ties are broken anew each epoch, and so is the order of the batches. No batch
    is wider than `batch_tokens` on either side, padding included, unless it is a single pair.
    """
    random = np.random.default_rng(derive_seed(seed, "plan", epoch))
    shuffled = random.permutation(len(source_lengths))
    order = shuffled[_by_lengths(source_lengths[shuffled], target_lengths[shuffled])]
    batches = _cut(order, source_lengths[order], target_lengths[order], batch_tokens)
    return [batches[index] for index in random.permutation(len(batches))]


def plan_in_order(
    source_lengths: IntArray, target_lengths: IntArray, batch_tokens: int
) -> list[IntArray]:
    """Return batches for one pass without randomness, long pairs first: for validation."""
    order = _by_lengths(source_lengths, target_lengths)[::-1]
    return _cut(order, source_lengths[order], target_lengths[order], batch_tokens)


def _by_lengths(source_lengths: IntArray, target_lengths: IntArray) -> IntArray:
    """Return the rows, those beside each other alike in both lengths.

    By the longer side, which is what a batch's width is; of the same width from the longest source
    to the longest target, of the next width back again, so that no neighbours are far apart.
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

"""Finds duplicate pairs by their hashes, which need not fit into memory together."""

import numpy as np
import numpy.typing as npt

from mtrain.text.filters import CODES, KEPT

HASHES_AT_ONCE = 1 << 22


def mark_duplicates(
    hashes: npt.NDArray[np.int64],
    verdicts: npt.NDArray[np.uint8],
    code: int = CODES["duplicate"],
) -> None:
    """Mark every kept pair with `code` if an earlier kept pair has the same hash.

    Partitions the hashes by value and sorts one partition at a time, to bound memory.
    """
    parts = max(1, -(-len(hashes) // HASHES_AT_ONCE))
    for part in range(parts):
        values, places = [], []
        for start in range(0, len(hashes), HASHES_AT_ONCE):
            chunk = hashes[start : start + HASHES_AT_ONCE]
            is_here = verdicts[start : start + HASHES_AT_ONCE] == KEPT
            is_here &= chunk % parts == part
            values.append(chunk[is_here])
            places.append(np.flatnonzero(is_here) + start)
        value, place = np.concatenate(values), np.concatenate(places)
        order = np.argsort(value, kind="stable")
        is_repeat = np.zeros(len(order), dtype=bool)
        is_repeat[1:] = value[order][1:] == value[order][:-1]
        verdicts[place[order[is_repeat]]] = code

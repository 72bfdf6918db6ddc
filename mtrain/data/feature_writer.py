"""Writes the column of features that a token store gets after its other columns.

Does not import torch.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np

from mtrain.data.store import FEATURES, HalfArray


class FeatureWriter:
    """Appends the features of each pair to a store on disk; keeps none of them in memory."""

    def __init__(self, folder: Path) -> None:
        self._open = ExitStack()
        self._states, self._offsets = (
            self._open.enter_context((folder / f"{FEATURES}.{part}").open("wb"))
            for part in ("tokens", "offsets")
        )
        self._end = 0
        self._offsets.write(np.zeros(1, np.int64).tobytes())

    def append(self, features: Sequence[HalfArray]) -> None:
        """Append the features (F,Df) of some pairs, in the order of the store."""
        for states in features:
            self._states.write(np.ascontiguousarray(states).tobytes())
            self._end += len(states)
            self._offsets.write(np.int64(self._end).tobytes())

    def __enter__(self) -> "FeatureWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._open.close()

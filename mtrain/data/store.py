"""The token store: the ids of many sentence pairs in memory-mapped files.

Per side two files: `tokens` holds all ids one after another, without start or end marks;
`offsets` where each sentence begins, and last where the last one ends.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from mtrain.errors import UserError

SIDES = ("source", "target")
IntArray = npt.NDArray[np.int64]


def _token_type(vocab_size: int) -> type[np.unsignedinteger]:
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32


class StoreWriter:
    """Appends pairs to a new store; holds nothing in memory but what was just given."""

    def __init__(self, folder: Path, vocab_size: int) -> None:
        folder.mkdir(parents=True)
        self._type = _token_type(vocab_size)
        self._tokens = [(folder / f"{side}.tokens").open("wb") for side in SIDES]
        self._offsets = [(folder / f"{side}.offsets").open("wb") for side in SIDES]
        self._ends = [0, 0]
        self._digest = hashlib.sha256()
        self.num_pairs = 0
        for file in self._offsets:
            file.write(np.zeros(1, np.int64).tobytes())

    def append(self, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> None:
        """Add the pairs (sources[i], targets[i]), given as ids."""
        self.num_pairs += len(sources)
        for side, sentences in enumerate((sources, targets)):
            tokens = np.fromiter((t for s in sentences for t in s), self._type).tobytes()
            ends = self._ends[side] + np.cumsum([len(s) for s in sentences], dtype=np.int64)
            self._tokens[side].write(tokens)
            self._offsets[side].write(ends.tobytes())
            self._ends[side] = int(ends[-1]) if len(ends) else self._ends[side]
            self._digest.update(tokens)
            self._digest.update(ends.tobytes())

    def fingerprint(self) -> str:
        """Return what tells this store's content from any other's."""
        return self._digest.hexdigest()

    def num_tokens(self) -> dict[str, int]:
        """Return the ids written on each side."""
        return dict(zip(SIDES, self._ends, strict=True))

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for file in self._tokens + self._offsets:
            file.close()


@dataclass(frozen=True)
class Side:
    """One language of a store."""

    tokens: npt.NDArray[np.unsignedinteger]
    offsets: IntArray

    @property
    def lengths(self) -> IntArray:
        """Ids of each sentence, without end mark."""
        return np.diff(self.offsets)

    def sentence(self, index: int) -> list[int]:
        """Return the ids of one sentence."""
        ids: list[int] = self.tokens[self.offsets[index] : self.offsets[index + 1]].tolist()
        return ids

    def padded(self, rows: IntArray, padding: int, width: int) -> IntArray:
        """Return the ids of the sentences `rows`, shape (len(rows), width), padded on the right."""
        starts, ends = self.offsets[rows, None], self.offsets[rows + 1, None]
        places = starts + np.arange(width)
        real = places < ends
        ids = self.tokens[np.where(real, places, 0)] if len(self.tokens) else np.zeros_like(places)
        return np.where(real, ids.astype(np.int64), padding)


class TokenStore:
    """Reads a store through memory maps: opening costs nothing, and the text need not fit."""

    def __init__(self, folder: Path, vocab_size: int, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        self.source, self.target = (self._open(folder, side, vocab_size) for side in SIDES)
        if len(self.source.offsets) != len(self.target.offsets):
            raise _damaged(folder)

    def __len__(self) -> int:
        return len(self.source.offsets) - 1

    @staticmethod
    def _open(folder: Path, side: str, vocab_size: int) -> Side:
        try:
            offsets = np.memmap(folder / f"{side}.offsets", np.int64, "r")
            path = folder / f"{side}.tokens"
            tokens = (
                np.memmap(path, _token_type(vocab_size), "r")
                if path.stat().st_size
                else np.zeros(0, _token_type(vocab_size))
            )
        except (OSError, ValueError):
            raise _damaged(folder) from None
        if offsets[-1] != len(tokens):
            raise _damaged(folder)
        return Side(tokens, offsets)


def _damaged(folder: Path) -> UserError:
    return UserError(
        f"{folder}: the token store is damaged or incomplete",
        f"remove {folder.parent} and run `mtrain prepare` again",
    )

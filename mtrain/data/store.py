"""The token store: the ids of many sentence pairs in memory-mapped files.

Per side two files: `tokens` holds all ids one after another, without start or end marks;
`offsets` where each sentence begins, and last where the last one ends. Where some pairs come with
links between their tokens, two more files hold those in the same way: source token, target token,
source token, and so on, each counted from its sentence's first.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from mtrain.errors import UserError
from mtrain.text.lines import file_digest
from mtrain.text.links import SIDES, Link

LINKS = "links"
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
LINK_TYPE = np.uint32


def _token_type(vocab_size: int) -> type[np.unsignedinteger]:
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32


class StoreWriter:
    """Appends pairs to a new store; holds nothing in memory but what was just given."""

    def __init__(self, folder: Path, vocab_size: int, has_links: bool = False) -> None:
        folder.mkdir(parents=True)
        token_type = _token_type(vocab_size)
        self._types = [token_type, token_type, *([LINK_TYPE] if has_links else [])]
        names = (*SIDES, LINKS)[: len(self._types)]
        self._tokens = [(folder / f"{name}.tokens").open("wb") for name in names]
        self._offsets = [(folder / f"{name}.offsets").open("wb") for name in names]
        self._ends = [0 for _ in names]
        self._digest = hashlib.sha256()
        self.num_pairs = 0
        for file in self._offsets:
            file.write(np.zeros(1, np.int64).tobytes())

    def append(
        self,
        sources: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
        links: Sequence[Sequence[Link]] = (),
    ) -> None:
        """Add the pairs (sources[i], targets[i]), given as ids; links[i] is left out without links.

        A link is (source token, target token), counted from the first of the pair.
        """
        self.num_pairs += len(sources)
        parts = [sources, targets]
        if len(self._types) > len(SIDES):
            parts.append([list(chain.from_iterable(pair)) for pair in links])
        for part, (rows, kind) in enumerate(zip(parts, self._types, strict=True)):
            tokens = np.fromiter(chain.from_iterable(rows), kind).tobytes()
            ends = self._ends[part] + np.cumsum([len(row) for row in rows], dtype=np.int64)
            self._tokens[part].write(tokens)
            self._offsets[part].write(ends.tobytes())
            self._ends[part] = int(ends[-1]) if len(ends) else self._ends[part]
            self._digest.update(tokens)
            self._digest.update(ends.tobytes())

    def fingerprint(self) -> str:
        """Return what tells this store's content from any other's."""
        return self._digest.hexdigest()

    def num_tokens(self) -> dict[str, int]:
        """Return the ids written on each side."""
        return dict(zip(SIDES, self._ends, strict=False))

    def num_links(self) -> int:
        """Return the links written between tokens."""
        return sum(self._ends[len(SIDES) :]) // 2

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


@dataclass(frozen=True)
class TokenLinks:
    """Which tokens of each pair are linked."""

    tokens: npt.NDArray[np.unsignedinteger]
    offsets: IntArray

    def of_pair(self, index: int) -> list[Link]:
        """Return the links (source token, target token) of one pair."""
        flat = self.tokens[self.offsets[index] : self.offsets[index + 1]].tolist()
        return list(zip(flat[::2], flat[1::2], strict=True))

    def shares(self, rows: IntArray, num_target: int, num_source: int) -> FloatArray:
        """Return how each target token's links spread over the source tokens of the pairs `rows`.

        Shape (len(rows), num_target, num_source): 1/n at each of a target token's n links, so that
        it has a sum of one, or of zero if it has no link.
        """
        starts, ends = self.offsets[rows] // 2, self.offsets[rows + 1] // 2
        counts = ends - starts
        row = np.repeat(np.arange(len(rows)), counts)
        places = np.arange(len(row)) + np.repeat(ends - np.cumsum(counts), counts)
        source, target = self.tokens.reshape(-1, 2)[places].T
        shares: FloatArray = np.zeros((len(rows), num_target, num_source), np.float32)
        shares[row, target, source] = 1
        shares /= np.maximum(shares.sum(axis=2, keepdims=True), 1)
        return shares


class TokenStore:
    """Reads a store through memory maps: the text need not fit into memory."""

    def __init__(
        self, folder: Path, vocab_size: int, fingerprint: str, has_links: bool = False
    ) -> None:
        self.fingerprint = fingerprint
        token_type = _token_type(vocab_size)
        self.source, self.target = (Side(*_open(folder, side, token_type)) for side in SIDES)
        self.links = TokenLinks(*_open(folder, LINKS, LINK_TYPE)) if has_links else None
        parts = [part for part in (self.source, self.target, self.links) if part is not None]
        is_unknown = any(
            side.tokens.max(initial=0) >= vocab_size for side in (self.source, self.target)
        )
        if is_unknown or len({len(part.offsets) for part in parts}) > 1:
            raise _damaged(folder)

    def __len__(self) -> int:
        return len(self.source.offsets) - 1


def _open(
    folder: Path, name: str, kind: type[np.unsignedinteger]
) -> tuple[npt.NDArray[np.unsignedinteger], IntArray]:
    try:
        offsets = np.memmap(folder / f"{name}.offsets", np.int64, "r")
        path = folder / f"{name}.tokens"
        tokens = np.memmap(path, kind, "r") if path.stat().st_size else np.zeros(0, kind)
    except (OSError, ValueError):
        raise _damaged(folder) from None
    if offsets[0] != 0 or offsets[-1] != len(tokens) or (offsets[1:] < offsets[:-1]).any():
        raise _damaged(folder)
    return tokens, offsets


def check_files(folder: Path, digests: Mapping[str, str]) -> None:
    """Raise UserError where a file is not the one whose SHA-256 is given."""
    for name, digest in digests.items():
        if not (folder / name).is_file() or file_digest(folder / name) != digest:
            raise _damaged(folder)


def _damaged(folder: Path) -> UserError:
    return UserError(
        f"{folder}: the token store is damaged, or not the one that was prepared here",
        f"remove {folder.parent} and run `mtrain prepare` again",
    )

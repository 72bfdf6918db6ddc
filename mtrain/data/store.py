"""The token store: sentence pairs as integers in memory-mapped files, column by column.

A column holds a list of integers for each pair, in two files: `NAME.tokens` has the concatenated
lists, `NAME.offsets` the start of each list and, last, the end of the last one. The columns
`source` and `target` hold ids without start or end marks. `links` holds the token links as
alternating source and target positions, counted from 0 in each sentence. `text` holds the bytes of
the sources. Three columns hold vectors in place of integers: `features` the states of a features
model, `teacher_ids` and `teacher_log_probs` the likeliest tokens of a teacher at each place of the
target, end mark included.
"""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from mtrain.errors import UserError
from mtrain.text.lines import file_digest
from mtrain.text.links import SIDES, Link

LINKS, TEXT, FEATURES = "links", "text", "features"
TEACHER = ("teacher_ids", "teacher_log_probs")
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
Vectors = npt.NDArray[Any]  # one vector a row
Columns = dict[str, str]  # column: the NumPy name of its dtype
Rows = Mapping[str, Sequence[Sequence[int]]]  # column: the integers of each pair


def translation_columns(
    vocab_size: int, has_links: bool = False, has_text: bool = False
) -> Columns:
    """Return the columns of a parallel corpus."""
    return {
        **dict.fromkeys(SIDES, token_dtype(vocab_size)),
        **({LINKS: "uint32"} if has_links else {}),
        **({TEXT: "uint8"} if has_text else {}),
    }


def token_dtype(vocab_size: int) -> str:
    """Return the NumPy name of the dtype of token ids."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def vector_dtype(width: int, number: str = "float16") -> str:
    """Return the NumPy name of the dtype of vectors of a width."""
    return f"({width},){number}"


class StoreWriter:
    """Appends pairs to a new store on disk; keeps none of them in memory."""

    def __init__(self, folder: Path, columns: Columns) -> None:
        folder.mkdir(parents=True)
        self.columns = columns
        self._open = ExitStack()
        self._files = {
            name: tuple(
                self._open.enter_context((folder / f"{name}.{part}").open("wb"))
                for part in ("tokens", "offsets")
            )
            for name in columns
        }
        self._ends = dict.fromkeys(columns, 0)
        self._digest = hashlib.sha256()
        self.num_pairs = 0
        for _, offsets in self._files.values():
            offsets.write(np.zeros(1, np.int64).tobytes())

    def append(self, rows: Rows) -> None:
        """Append pairs, given as the integers of each pair in every column."""
        assert rows.keys() == self.columns.keys()
        self.append_columns({name: Column.of(rows[name], kind)
                             for name, kind in self.columns.items()})  # fmt: skip

    def append_columns(self, columns: Mapping[str, "Column"]) -> None:
        """Append pairs, given as columns in memory; others than the store's are left out."""
        assert len({len(columns[name].offsets) for name in self.columns}) == 1
        self.num_pairs += len(columns[next(iter(self.columns))].offsets) - 1
        for name in self.columns:
            tokens, offsets = columns[name].tokens, columns[name].offsets
            ends = self._ends[name] + offsets[1:]
            for file, content in zip(
                self._files[name], (tokens.tobytes(), ends.tobytes()), strict=True
            ):
                file.write(content)
                self._digest.update(content)
            self._ends[name] = int(ends[-1]) if len(ends) else self._ends[name]

    def fingerprint(self) -> str:
        """Return the SHA-256 of everything appended, which identifies the content."""
        return self._digest.hexdigest()

    def counts(self) -> dict[str, int]:
        """Return the number of integers in each column."""
        return dict(self._ends)

    def __enter__(self) -> "StoreWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._open.close()


@dataclass(frozen=True)
class Column:
    """The integers of each pair; token ids if the column is a side."""

    tokens: npt.NDArray[np.unsignedinteger]
    offsets: IntArray

    @property
    def lengths(self) -> IntArray:
        """The number of integers of each pair; for a side, its ids without the end mark."""
        return np.diff(self.offsets)

    def row(self, index: int) -> list[int]:
        """Return the integers of one pair."""
        numbers: list[int] = self.tokens[self.offsets[index] : self.offsets[index + 1]].tolist()
        return numbers

    def rows(self) -> list[list[int]]:
        """Return the integers of every pair."""
        numbers: list[int] = self.tokens.tolist()
        return [numbers[start:end] for start, end in pairwise(self.offsets.tolist())]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], kind: str = "uint32") -> "Column":
        """Return a column in memory; `kind` is the NumPy name of its dtype."""
        tokens = np.fromiter(chain.from_iterable(rows), kind)
        return cls(tokens, np.cumsum([0, *map(len, rows)], dtype=np.int64))

    def padded(self, rows: IntArray, padding: int, width: int) -> IntArray:
        """Return the integers of the pairs `rows`, (len(rows), width), padded on the right."""
        starts, ends = self.offsets[rows, None], self.offsets[rows + 1, None]
        places = starts + np.arange(width)
        real = places < ends
        ids = self.tokens[np.where(real, places, 0)] if len(self.tokens) else np.zeros_like(places)
        return np.where(real, ids.astype(np.int64), padding)


class TokenLinks(Column):
    """The links between the tokens of each pair."""

    def of_pair(self, index: int) -> list[Link]:
        """Return the links (source token, target token) of one pair."""
        flat = self.row(index)
        return list(zip(flat[::2], flat[1::2], strict=True))

    def shares(self, rows: IntArray, num_target: int, num_source: int) -> FloatArray:
        """Return alignment weights of the pairs `rows`: (len(rows), num_target, num_source).

        A target token with n links has weight 1/n at each linked source token, so that its weights
        sum to 1. The weights of a target token without links are 0.
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


@dataclass(frozen=True)
class VectorColumn:
    """Vectors of each pair: D numbers a token."""

    vectors: Vectors  # (tokens,D)
    offsets: IntArray

    def padded(self, rows: IntArray) -> tuple[Vectors, IntArray]:
        """Return the vectors (len(rows),F,D) of the pairs `rows`, and how many each has.

        Padding is 0.
        """
        starts = self.offsets[rows]
        lengths: IntArray = self.offsets[rows + 1] - starts
        shape = len(rows), int(lengths.max()), self.vectors.shape[1]
        padded = np.zeros(shape, self.vectors.dtype)
        for place, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            padded[place, :length] = self.vectors[start : start + length]
        return padded, lengths


class TokenStore:
    """Reads a store through memory maps, so that it need not fit into memory."""

    def __init__(self, folder: Path, columns: Columns, vocab_size: int, fingerprint: str) -> None:
        """Open the columns. Raises `UserError` if files are damaged, columns differ in length, or
        an id is not in the vocabulary."""
        self.fingerprint = fingerprint
        opened = {name: _open(folder, name, kind) for name, kind in columns.items()}
        num_rows = {len(offsets) for _, offsets in opened.values()}
        vectors = {name: VectorColumn(*opened.pop(name))
                   for name in (FEATURES, *TEACHER) if name in opened}  # fmt: skip
        self.features = vectors.get(FEATURES)
        # ids and log probabilities of a teacher's likeliest tokens
        self.teacher = (vectors[TEACHER[0]], vectors[TEACHER[1]]) if TEACHER[0] in vectors else None
        self.columns = {
            name: (TokenLinks if name == LINKS else Column)(*parts)
            for name, parts in opened.items()
        }
        is_unknown = any(side.tokens.max(initial=0) >= vocab_size for side in self.sides)
        if is_unknown or len(num_rows) > 1:
            raise _damaged(folder)

    @property
    def sides(self) -> list[Column]:
        """The ids of the sources, and of the targets if the store has some."""
        return [self.columns[side] for side in SIDES if side in self.columns]

    @property
    def source(self) -> Column:
        """The ids of the sources."""
        return self.columns["source"]

    @property
    def target(self) -> Column:
        """The ids of the targets."""
        return self.columns["target"]

    @property
    def links(self) -> TokenLinks | None:
        """The links between the tokens of each pair, if the store has them."""
        links = self.columns.get(LINKS)
        assert links is None or isinstance(links, TokenLinks)
        return links

    def texts(self, start: int, end: int) -> list[str]:
        """Return the sources of the pairs from `start` to `end`; the store must have their text."""
        text = self.columns[TEXT]
        return [bytes(text.row(row)).decode() for row in range(start, min(end, len(self)))]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())).offsets) - 1


def _open(folder: Path, name: str, kind: str) -> tuple[npt.NDArray[Any], IntArray]:
    try:
        offsets = np.memmap(folder / f"{name}.offsets", np.int64, "r")
        path = folder / f"{name}.tokens"
        dtype: np.dtype[Any] = np.dtype(kind)
        tokens = np.memmap(path, dtype, "r") if path.stat().st_size else np.zeros(0, dtype)
    except (OSError, ValueError):
        raise _damaged(folder) from None
    if offsets[0] != 0 or offsets[-1] != len(tokens) or (offsets[1:] < offsets[:-1]).any():
        raise _damaged(folder)
    return tokens, offsets


def check_files(folder: Path, digests: Mapping[str, str]) -> None:
    """Raise UserError if a file is missing or has another SHA-256."""
    for name, digest in digests.items():
        if not (folder / name).is_file() or file_digest(folder / name) != digest:
            raise _damaged(folder)


def _damaged(folder: Path) -> UserError:
    return UserError(
        f"{folder}: the token store is damaged, or not the one that was prepared here",
        f"remove {folder.parent} and run `mtrain prepare` again",
    )

"""Blocks of both passes of `prepare` as records and arrays, for the files of shards."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from mtrain.data.block_file import Arrays, BlockReader, write_block
from mtrain.data.blocks import Place
from mtrain.data.scan import ScannedBlock
from mtrain.data.store import Column
from mtrain.data.token_blocks import TokenBlock
from mtrain.errors import UserError
from mtrain.text.filters import Ledger


class _Placed(Protocol):
    @property
    def place(self) -> Place: ...


T = TypeVar("T", bound=_Placed)


def write_scanned(file: BinaryIO, block: ScannedBlock) -> None:
    """Append a scanned block to a file."""
    counts = {name: getattr(block, name) for name in ("source_overlap", "kept_overlap",
                                                      "would_drop")}  # fmt: skip
    arrays: Arrays = {"verdicts": block.verdicts, "hashes": block.hashes}
    if block.near_hashes is not None:
        arrays["near_hashes"] = block.near_hashes
    write_block(file, {**_head(block.place, block.ledger), **counts}, arrays)


def read_scanned(paths: Sequence[Path]) -> Iterator[ScannedBlock]:
    """Yield the scanned blocks in the files of all shards, in order."""

    def restored(place: Place, ledger: Ledger, counts: dict[str, Any], arrays: Arrays
                 ) -> ScannedBlock:  # fmt: skip
        near_hashes = arrays.get("near_hashes")
        return ScannedBlock(place, arrays["verdicts"], arrays["hashes"], near_hashes, ledger,
                            **counts)  # fmt: skip

    return _in_order(paths, restored)


def write_tokens(file: BinaryIO, block: TokenBlock) -> None:
    """Append a tokenised block to a file."""
    counts = {name: getattr(block, name) for name in ("has_words", "links", "spans")}
    arrays: Arrays = {}
    for name, column in block.columns.items():
        arrays |= {f"{name}.tokens": column.tokens, f"{name}.offsets": column.offsets}
    write_block(file, {**_head(block.place, block.ledger), **counts}, arrays)


def read_tokens(paths: Sequence[Path]) -> Iterator[TokenBlock]:
    """Yield the tokenised blocks in the files of all shards, in order."""

    def restored(place: Place, ledger: Ledger, counts: dict[str, Any], arrays: Arrays
                 ) -> TokenBlock:  # fmt: skip
        names = [name.removesuffix(".tokens") for name in arrays if name.endswith(".tokens")]
        columns = {name: Column(arrays[f"{name}.tokens"], arrays[f"{name}.offsets"])
                   for name in names}  # fmt: skip
        return TokenBlock(place, columns, ledger, **counts)

    return _in_order(paths, restored)


def _head(place: Place, ledger: Ledger) -> dict[str, Any]:
    return {"place": asdict(place), "ledger": ledger.as_dict()}


def _in_order(
    paths: Sequence[Path], restored: Callable[[Place, Ledger, dict[str, Any], Arrays], T]
) -> Iterator[T]:
    """Yield all blocks in order; shard k of N has every N-th, from the k-th on.

    Raises UserError if a block does not follow the one before it: a corpus was another one while
    some shard read it.
    """
    readers = [BlockReader(path) for path in paths]
    number = position = 0
    while (read := readers[number % len(readers)].read()) is not None:
        record, arrays = read
        place = Place(**record.pop("place"))
        if (place.block, place.start) != (number, position):
            raise _changed()
        yield restored(place, Ledger.from_dict(record.pop("ledger")), record, arrays)
        number, position = number + 1, position + place.num_pairs
    if any(reader.read() is not None for reader in readers):
        raise _changed()


def _changed() -> UserError:
    return UserError(
        "data.train: a file changed while the shards read it",
        "remove the folder of the shards and run them again",
    )

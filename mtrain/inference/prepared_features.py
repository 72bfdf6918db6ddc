"""Adds the features of all sources to a data folder: a column of each of its token stores."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mtrain.console import progress, say
from mtrain.data.store import FEATURES, TokenStore, vector_dtype
from mtrain.data.vector_writer import OFFSET_BYTES, VectorWriter, check_room
from mtrain.inference.features import BertFeatures
from mtrain.text.lines import file_digests

BLOCK_LINES = 2000  # whose features are in memory at once
BYTES = 2  # of a number in half precision


def add_features(folder: Path, manifest: dict[str, Any], features: BertFeatures) -> None:
    """Compute the features of each split in a data folder under way, and complete its manifest.

    Raises `UserError`, before it computes any, if the disk has no room for them.
    """
    stores = {
        split: TokenStore(folder / split, about["columns"], about["vocab_size"], "")
        for split, about in manifest["splits"].items()
    }
    num_lines = sum(map(len, stores.values()))
    num_tokens, num_long = _count(stores, num_lines, features)
    size = num_tokens * features.width * BYTES + num_lines * OFFSET_BYTES
    told = f"{num_tokens:,} states of width {features.width}, {size / 1e9:,.3f} GB"
    check_room(folder, size, f"model.features: {told}", "train on fewer pairs")
    say(
        f"model.features: {told}, by {features.checkpoint} on {features.precision.device} in "
        f"{features.precision.name}"
    )
    with progress("computing features", num_lines + num_long, "lines") as shown:
        for split, store in stores.items():
            with VectorWriter(folder / split, FEATURES) as writer:
                for texts in _blocks(store):
                    states = features.states(texts, shown.advance)
                    writer.append([each.cpu().numpy() for each in states])
    for split, about in manifest["splits"].items():
        about["columns"][FEATURES] = vector_dtype(features.width)
        about["sha256"] = file_digests(folder / split)
        content = f"{about['fingerprint']}/{features.identity}/{features.layer}"
        about["fingerprint"] = hashlib.sha256(content.encode()).hexdigest()
    manifest["features"] = {
        "model": features.run.path.name,
        "layer": features.layer,
        "width": features.width,
        "tokens": num_tokens,
        "bytes": size,
        "long_lines": num_long,
    }


def _count(
    stores: Mapping[str, TokenStore], num_lines: int, features: BertFeatures
) -> tuple[int, int]:
    """Return the number of states of all lines, and of the lines that are read in parts."""
    num_tokens = num_long = 0
    with progress("counting features", num_lines, "lines") as shown:
        for store in stores.values():
            for texts in _blocks(store):
                lengths, longer = features.lengths(texts)
                num_tokens, num_long = num_tokens + int(lengths.sum()), num_long + longer
                shown.advance(len(texts))
    return num_tokens, num_long


def _blocks(store: TokenStore) -> Iterator[list[str]]:
    for start in range(0, len(store), BLOCK_LINES):
        yield store.texts(start, start + BLOCK_LINES)

"""Splits as token stores: encodes text, writes held-out sets, describes a store for the manifest.

Does not import torch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtrain.data.store import StoreWriter, translation_columns
from mtrain.errors import UserError
from mtrain.text.lines import clean_pairs, file_digests, read_lines
from mtrain.text.links import SIDES
from mtrain.text.tokenizer import TokenizerPair, available_cores


def encode(texts: Sequence[list[str]], tokenizers: TokenizerPair) -> list[list[list[int]]]:
    """Return the ids of each text, one list per side."""
    sides = zip((tokenizers.source, tokenizers.target), texts, strict=True)
    return [tokenizer.encode(lines, available_cores()) for tokenizer, lines in sides]


def write_held_out(
    text: Path, folder: Path, tokenizers: TokenizerPair, max_tokens: int, key: str
) -> dict[str, Any]:
    """Tokenise TEXT.source and TEXT.target into a store, for the dev loss; return its description.

    Leaves out pairs that are empty or over `max_tokens`. Raises UserError, naming `key`, if that
    leaves none.
    """
    longest = max_tokens - 1  # without the end mark
    texts = clean_pairs(
        *(list(read_lines(text.with_name(f"{text.name}.{side}"))) for side in SIDES)
    )
    pairs = list(zip(*encode(texts, tokenizers), strict=True))
    fitting = [(s, t) for s, t in pairs if 0 < len(s) <= longest and 0 < len(t) <= longest]
    with StoreWriter(folder, translation_columns(tokenizers.vocab_size)) as writer:
        writer.append({side: [pair[row] for pair in fitting] for row, side in enumerate(SIDES)})
    if not fitting:
        raise UserError(f"{key}: every pair is empty or over data.filters.max_tokens")
    told = describe_split(folder, writer, tokenizers)
    return told | {"left_out_of_loss": len(pairs) - len(fitting)}


def describe_split(folder: Path, writer: StoreWriter, tokenizers: TokenizerPair) -> dict[str, Any]:
    """Return the manifest entry of a store that has been written."""
    return {
        "pairs": writer.num_pairs,
        "columns": writer.columns,
        "tokens": {side: writer.counts()[side] for side in SIDES},
        "vocab_size": tokenizers.vocab_size,
        "fingerprint": writer.fingerprint(),
        "sha256": file_digests(folder),
    }

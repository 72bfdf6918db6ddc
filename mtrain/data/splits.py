"""Splits as token stores: encodes text, writes held-out sets, describes a store for the manifest.

Does not import torch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtrain.data.held_out import Part
from mtrain.data.store import TEXT, StoreWriter, translation_columns
from mtrain.errors import UserError
from mtrain.text.lines import clean_pairs, file_digests, read_lines
from mtrain.text.links import SIDES
from mtrain.text.tokenizer import TokenizerPair, available_cores


def encode(
    texts: Sequence[list[str]], tokenizers: TokenizerPair, is_text: bool = False
) -> list[list[list[int]]]:
    """Return the ids of each text, one list per side; the same list for text on both sides.

    The texts are those in which the tokenizers' protection has replaced what it protects.
    """
    if is_text:
        ids = tokenizers.source.encode(texts[0], available_cores())
        return [ids, ids]
    sides = zip((tokenizers.source, tokenizers.target), texts, strict=True)
    return [tokenizer.encode(lines, available_cores()) for tokenizer, lines in sides]


def write_held_out(
    text: Path,
    folder: Path,
    parts: Sequence[tuple[Part, TokenizerPair]],
    max_tokens: int,
    key: str,
    has_text: bool,
) -> dict[str, Any]:
    """Tokenise TEXT.source and TEXT.target into a store, for the dev loss; return its description.

    Each of the `parts` has its own prefixes. With `has_text` the store has the sources' text too.
    Leaves out pairs that are empty or over `max_tokens`. Raises UserError, naming `key`, if that
    leaves none.
    """
    texts = clean_pairs(
        *(list(read_lines(text.with_name(f"{text.name}.{side}"))) for side in SIDES)
    )
    told, start, (_, tokenizers) = [], 0, parts[0]
    columns = translation_columns(tokenizers.vocab_size, has_text=has_text)
    with StoreWriter(folder, columns) as writer:
        for part, of_part in parts:
            lines = [side[start : start + part.lines] for side in texts]
            start += part.lines
            masked = of_part.protection.protect_pairs(*lines).sides
            pairs = zip(lines[0], *encode(masked, of_part, part.is_text), strict=True)
            fitting = [
                (text, *pair) for text, *pair in pairs
                if all(0 < len(ids) < max_tokens for ids in pair)
            ]  # fmt: skip
            rows = {side: [pair[row] for pair in fitting] for row, side in enumerate(SIDES, 1)}
            rows = one_sided(rows) if part.is_text else rows
            text_rows = text_of([text for text, *_ in fitting]) if has_text else {}
            writer.append({**rows, **text_rows})
            source_lang, target_lang = part.languages
            told.append({"corpus": part.corpus, "source_lang": source_lang,
                         "target_lang": target_lang, "lines": part.lines,
                         "pairs": len(fitting), "is_text": part.is_text})  # fmt: skip
    if not writer.num_pairs:
        raise UserError(f"{key}: every pair is empty or over data.filters.max_tokens")
    left_out = start - writer.num_pairs
    about = describe_split(folder, writer, tokenizers)
    return about | {"left_out_of_loss": left_out, "parts": told}


def text_of(sources: Sequence[str]) -> dict[str, list[bytes]]:
    """Return the column with the sources' text."""
    return {TEXT: [source.encode() for source in sources]}


def one_sided(rows: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
    """Return the rows of texts: their target is empty."""
    return rows | {"target": [[] for _ in rows["target"]]}


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

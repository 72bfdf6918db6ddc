"""Rewrites tokenizers: more pieces; of SentencePiece models also another id for each piece."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtrain.errors import UserError, missing_extra

UNUSED_SCORE = -1e6  # of a piece that the model never writes


@dataclass(frozen=True)
class Marks:
    """The pieces that are no text."""

    unknown: str
    start: str
    end: str
    pad: str


@dataclass(frozen=True)
class SentencePieceContent:
    """What a SentencePiece model consists of."""

    is_unigram: bool  # else BPE
    pieces: list[tuple[str, float]]  # with their scores, by id
    ordinary: frozenset[str]  # those that text is split into
    symbols: list[str]  # those that are never split
    charsmap: bytes  # how it normalises text; empty for not at all


def read_content(path: Path, purpose: str) -> SentencePieceContent:
    """Read what a SentencePiece model consists of, for a purpose that messages name.

    Raises `UserError` if another tokenizer cannot do the same.
    """
    model, kind = _read(path, purpose)
    trained, normal = model.trainer_spec, model.normalizer_spec
    options = {
        "no byte fallback": not trained.byte_fallback,
        "blanks at the end of words": trained.treat_whitespace_as_suffix,
        "no blank before the text": not normal.add_dummy_prefix,
        "repeated blanks": not normal.remove_extra_whitespaces,
        "neither unigram nor BPE": trained.model_type not in (trained.UNIGRAM, trained.BPE),
    }
    if found := [name for name, is_so in options.items() if is_so]:
        raise UserError(f"{path}: {purpose} has no such SentencePiece model: {', '.join(found)}")
    of_kind = {each: [piece.piece for piece in model.pieces if piece.type == each]
               for each in (kind.NORMAL, kind.USER_DEFINED)}  # fmt: skip
    return SentencePieceContent(
        trained.model_type == trained.UNIGRAM,
        [(piece.piece, piece.score) for piece in model.pieces],
        frozenset(of_kind[kind.NORMAL]),
        of_kind[kind.USER_DEFINED],
        bytes(normal.precompiled_charsmap),
    )


def append_symbols(path: Path, symbols: Sequence[str]) -> bytes:
    """Return the tokenizer in `path` with symbols appended that are never split.

    A symbol that is a piece already keeps its id. Raises UserError for a mark such as </s>.
    """
    if not symbols:
        return path.read_bytes()
    if path.suffix == ".json":
        from mtrain.text.tokenizer_huggingface import append_to_json  # needs an extra

        return append_to_json(path, symbols)
    model, kind = _read(path, "tokenizer.symbols with a given model")
    known = {piece.piece: piece for piece in model.pieces}
    for symbol in dict.fromkeys(symbols):
        piece = known.get(symbol) or model.pieces.add(piece=symbol, score=0.0)
        if symbol in known and piece.type not in (kind.NORMAL, kind.USER_DEFINED):
            raise UserError(
                f"tokenizer.symbols: {symbol} is a mark or a byte of {path}", "leave it out"
            )
        piece.type = kind.USER_DEFINED
    data: bytes = model.SerializeToString()
    return data


def renumber(
    original: Path, path: Path, pieces: Sequence[str], marks: Marks, tags: Collection[str]
) -> list[str]:
    """Write the SentencePiece model `original` with `pieces` as its ids; return what it then lacks.

    Splits text as the original does. Of the pieces that the original lacks, none results from a
    text; marks and `tags` decode to nothing, all others to themselves.
    """
    model, kind = _read(original, "mtrain import")
    no_text = [piece.piece for piece in model.pieces
               if piece.type in (kind.CONTROL, kind.UNKNOWN)]  # fmt: skip
    known = {piece.piece: piece for piece in model.pieces if piece.piece not in no_text}
    kinds = dict.fromkeys((*no_text, marks.start, marks.end, marks.pad, *tags), kind.CONTROL)
    kinds[marks.unknown] = kind.UNKNOWN
    written = []
    for name in pieces:
        if name in known and name not in kinds:
            written.append(known[name])
        else:
            new = kind(piece=name, score=UNUSED_SCORE, type=kinds.get(name, kind.UNUSED))
            written.append(new)
    number = {name: place for place, name in enumerate(pieces)}
    del model.pieces[:]
    model.pieces.extend(written)
    spec = model.trainer_spec
    spec.unk_piece, spec.bos_piece, spec.eos_piece, spec.pad_piece = (
        marks.unknown, marks.start, marks.end, marks.pad)  # fmt: skip
    spec.unk_id, spec.bos_id, spec.eos_id, spec.pad_id = (
        number[mark] for mark in (marks.unknown, marks.start, marks.end, marks.pad)
    )
    spec.vocab_size = len(pieces)
    path.write_bytes(model.SerializeToString())
    return [name for name in known if name not in number]


def _read(path: Path, purpose: str) -> tuple[Any, Any]:
    """Return a model as a protobuf message, and the class of its pieces."""
    try:
        from google.protobuf.message import DecodeError
        from sentencepiece.sentencepiece_model_pb2 import ModelProto
    except ImportError:
        raise missing_extra("protobuf", "huggingface", purpose) from None
    try:
        model = ModelProto.FromString(path.read_bytes())
    except DecodeError:
        raise UserError(f"{path}: this is not a SentencePiece model") from None
    return model, ModelProto.SentencePiece

"""Tokenizers: text to ids and back.

A tokenizer is a SentencePiece model, or Hugging Face's `tokenizer.json`, whose name ends in .json.
"""

import re
import shutil
from collections.abc import Collection, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path

from mtrain.errors import UserError, missing_extra
from mtrain.runtime.environment import available_cores as available_cores
from mtrain.text.languages import piece_of_same_language
from mtrain.text.lines import file_digest
from mtrain.text.protection import NO_PROTECTION, PIECES, Protection
from mtrain.text.tokenizer_backend import MASKS, TokenizerBackend
from mtrain.text.tokenizer_backend import WORD_START as WORD_START
from mtrain.text.tokenizer_sentencepiece import SentencePieceBackend
from mtrain.text.tokenizer_training import train_tokenizer as train_tokenizer

MASK = MASKS[0]  # in vocabularies trained here
SEPARATOR = "<sep>"  # between the sentences of a document


def word_numbers(pieces: Sequence[str]) -> list[int]:
    """Return the word number of each SentencePiece piece.

    A word begins at WORD_START; the first piece always belongs to word 0.
    """
    starts = (place > 0 and piece.startswith(WORD_START) for place, piece in enumerate(pieces))
    return list(accumulate(map(int, starts)))


class MissingPiece(UserError):
    """A vocabulary lacks the piece of a prefix; `similar` are pieces of its form."""

    def __init__(self, path: Path, kind: str, piece: str, similar: Sequence[str]) -> None:
        self.lacking = f"no piece {piece}" + (f"; it has {', '.join(similar)}" if similar else "")
        super().__init__(
            f"{path}: this {kind} has {self.lacking}",
            "a prefix must be a piece of its side's vocabulary; tokenizer.symbols adds pieces to a "
            "given vocabulary",
        )


class Tokenizer:
    """Text to token ids and back. Ids carry no start or end marks.

    Those of every text but an empty one begin with `prefix`.
    """

    def __init__(self, path: Path) -> None:
        self._backend = _open(path)
        self.path = path
        self.vocab_size = self._backend.vocab_size
        self.eos_id, self.bos_id = self._backend.eos_id, self._backend.bos_id
        self.pad_id, self.unknown_id = self._backend.pad_id, self._backend.unknown_id
        self.prefix: list[int] = []

    def with_prefix(self, pieces: Sequence[str]) -> "Tokenizer":
        """Return the same tokenizer with these pieces as prefix; it shares the model."""
        other = copy(self)
        other.prefix = [self.id_of(piece) for piece in pieces]
        return other

    def id_of(self, piece: str) -> int:
        """Return the id of a piece, or of one that names the same language in another form.

        Raises UserError if the model has neither.
        """
        number = self._backend.find(piece)
        if number is None:
            same = piece_of_same_language(piece, self.all_pieces)
            if same is not None:
                return self.id_of(same)
            raise MissingPiece(self.path, self._backend.kind, piece, self._of_the_form_of(piece))
        return number

    @property
    def is_sentencepiece(self) -> bool:
        """Whether it is a SentencePiece model, which other programs' formats can hold."""
        return isinstance(self._backend, SentencePieceBackend)

    @property
    def mask_id(self) -> int:
        """The id of the piece that stands for a masked token. Raises UserError if there is none."""
        for piece in MASKS:
            number = self._backend.find(piece)
            if number is not None:
                return number
        raise UserError(
            f"{self.path}: this vocabulary has no mask piece ({' or '.join(MASKS)})",
            f'add one with tokenizer.symbols: ["{MASK}"], or let mtrain train a vocabulary',
        )

    def find_separator(self) -> int | None:
        """Return the id of the piece between the sentences of a document, or None without one."""
        return self._backend.find(SEPARATOR)

    @property
    def separator_id(self) -> int:
        """The id of the piece between the sentences of a document. Raises UserError without one."""
        number = self.find_separator()
        if number is None:
            raise UserError(
                f"{self.path}: this vocabulary has no piece {SEPARATOR} to stand between sentences",
                f'add it with tokenizer.symbols: ["{SEPARATOR}"], or let mtrain train a vocabulary',
            )
        return number

    @property
    def protected_ids(self) -> frozenset[int]:
        """The ids of the pieces of protected spans."""
        return frozenset(map(self.id_of, PIECES))

    def require_protected_pieces(self, besides: Collection[str] = ()) -> None:
        """Raise UserError if the vocabulary lacks pieces of data.protect, and `besides` does."""
        if any(self._backend.find(piece) is None and piece not in besides for piece in PIECES):
            raise UserError(
                f"{self.path}: this vocabulary has no pieces {PIECES[0]} to {PIECES[-1]}, which "
                "stand for what data.protect protects",
                f"add them with tokenizer.symbols: [{', '.join(PIECES)}], or let mtrain train a "
                "vocabulary",
            )

    @property
    def written_marks(self) -> dict[str, str]:
        """The pieces that are marks, by what `transformers` calls them."""
        names = "unk_token", "bos_token", "eos_token", "pad_token"
        ids = self.unknown_id, self.bos_id, self.eos_id, self.pad_id
        return dict(zip(names, self.pieces(ids), strict=True))

    @property
    def is_word_start(self) -> list[bool]:
        """Whether the piece of each id begins a word."""
        return [piece.startswith(WORD_START) for piece in self.all_pieces]

    def _of_the_form_of(self, piece: str) -> list[str]:
        """Return the pieces nearest to one with marks around or between its letters, as <2de>."""
        form = re.sub("[A-Za-z]+", "[A-Za-z]+", re.escape(piece))
        if form == "[A-Za-z]+":
            return []
        alike = [other for other in self.all_pieces if re.fullmatch(form, other)]
        return get_close_matches(piece, alike, n=12, cutoff=0.0)

    def _with_prefix(self, ids: Iterable[list[int]]) -> list[list[int]]:
        return [[*self.prefix, *each] if each else [] for each in ids]

    def encode(self, texts: Sequence[str], num_threads: int = 1) -> list[list[int]]:
        """Return the ids of each text."""
        ids = self._backend.encode(texts, num_threads)
        return self._with_prefix(ids) if self.prefix else ids

    def sample(self, texts: Sequence[str], rate: float, seed: int) -> list[list[int]]:
        """Return the ids of one random segmentation of each text, determined by the seed.

        `rate` is the rate of BPE dropout (Provilkov 2020) or the unigram model's alpha (Kudo 2018).
        Raises `UserError` if it is no SentencePiece model.
        """
        return self._with_prefix(self._backend.sample(texts, rate, seed))

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each sequence of ids, without the prefix."""
        start = len(self.prefix)
        bare = [list(row[start:] if list(row[:start]) == self.prefix else row) for row in ids]
        return self._backend.decode(bare)

    @property
    def ordinary_ids(self) -> list[int]:
        """The ids that a text can have, but for <unk>."""
        return self._backend.ordinary_ids()

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the piece of each id."""
        return self._backend.pieces(ids)

    @property
    def all_pieces(self) -> list[str]:
        """The piece of every id, in order."""
        return self.pieces(range(self.vocab_size))

    def text_pieces(self) -> set[str]:
        """Return the pieces of text: no marks, no bytes of byte fallback, and no blank alone."""
        ids = [i for i in self.ordinary_ids if not self._backend.is_byte(i)]
        return set(self.pieces(ids)) - {WORD_START}


def _open(path: Path) -> TokenizerBackend:
    """Read the tokenizer in a file. Raises `UserError` if there is none, or its library."""
    if not path.is_file():
        raise UserError(no_such_tokenizer(path))
    if path.suffix != ".json":
        return SentencePieceBackend(path)
    if find_spec("tokenizers") is None:
        raise missing_extra("tokenizers", "huggingface", f"{path}")
    from mtrain.text.tokenizer_huggingface import HuggingFaceBackend  # needs an extra

    return HuggingFaceBackend(path)


def no_such_tokenizer(path: Path) -> str:
    """Return the message that a tokenizer's file is missing."""
    kind = "tokenizer" if path.suffix == ".json" else "SentencePiece model"
    return f"{path}: there is no such {kind}"


def tokenizer_file(folder: Path, side: str) -> Path:
    """Return the file of a side (source, target or shared) in a tokenizer folder."""
    path = folder / f"{side}.json"
    return path if path.is_file() else path.with_suffix(".model")


def given_as(folder: Path) -> str:
    """Return the value of `tokenizer.path` that takes over the tokenizers of a folder."""
    shared, source, target = (tokenizer_file(folder, side)
                              for side in ("shared", "source", "target"))  # fmt: skip
    return str(shared) if shared.is_file() else f"{{source: {source}, target: {target}}}"


@dataclass(frozen=True)
class TokenizerPair:
    """The tokenizers of the two sides; one object if they share a vocabulary.

    They work on text in which `protection` has replaced what it protects.
    """

    source: Tokenizer
    target: Tokenizer
    protection: Protection = NO_PROTECTION

    @staticmethod
    def load(folder: Path) -> "TokenizerPair":
        """Read `shared.model`, or `source.model` and `target.model`, from a folder.

        In place of each, a file that ends in .json.
        """
        if (path := tokenizer_file(folder, "shared")).is_file():
            shared = Tokenizer(path)
            return TokenizerPair(shared, shared)
        source, target = (Tokenizer(tokenizer_file(folder, side)) for side in ("source", "target"))
        return TokenizerPair(source, target)

    def with_prefixes(self, prefixes: tuple[Sequence[str], Sequence[str]]) -> "TokenizerPair":
        """Return the same tokenizers with these pieces before each source and each target.

        Raises UserError if a vocabulary lacks a piece.
        """
        if not any(prefixes):
            return self
        source, target = self.source, self.target
        return replace(self, source=source.with_prefix(prefixes[0]),
                       target=target.with_prefix(prefixes[1]))  # fmt: skip

    def protecting(self, protection: Protection) -> "TokenizerPair":
        """Return the same tokenizers for text with this protection.

        Raises UserError if a vocabulary lacks the pieces that it writes.
        """
        if protection:
            self.source.require_protected_pieces()
            self.target.require_protected_pieces()
        return replace(self, protection=protection)

    @property
    def share_a_vocabulary(self) -> bool:
        """Whether each id stands for the same piece on both sides."""
        return self.source.path == self.target.path or self.source.all_pieces == (
            self.target.all_pieces
        )

    def save(self, folder: Path, source_name: str, target_name: str) -> None:
        """Write both SentencePiece models into a folder."""
        for side, name in ((self.source, source_name), (self.target, target_name)):
            shutil.copyfile(side.path, folder / name)

    @property
    def vocab_size(self) -> int:
        """The larger of the two vocabularies."""
        return max(self.source.vocab_size, self.target.vocab_size)

    def digest(self) -> str:
        """Return the SHA-256 of each model file, joined, which identifies the tokenizers."""
        paths = dict.fromkeys(side.path for side in (self.source, self.target))
        return ":".join(map(file_digest, paths))

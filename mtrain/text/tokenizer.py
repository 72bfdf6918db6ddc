"""SentencePiece: training, encoding, decoding. The only file that imports sentencepiece.

Marks: <pad> 0, <unk> 1, <s> 2, </s> 3 in models trained here. If another model lacks <s> or <pad>,
</s> takes its place. Models trained here use byte fallback, so that no input is unknown.
"""

import os
import re
import shutil
import threading
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import accumulate
from pathlib import Path

import sentencepiece

from mtrain.config.tokenizer import TokenizerConfig
from mtrain.console import warn
from mtrain.errors import UserError
from mtrain.text.languages import piece_of_same_language
from mtrain.text.lines import file_digest

WORD_START = "\u2581"
MASK = "[MASK]"  # the piece in place of a token to be predicted, in vocabularies trained here
MASKS = (MASK, "<mask>")  # in any


def word_numbers(pieces: Sequence[str]) -> list[int]:
    """Return the word number of each SentencePiece piece.

    A word begins at WORD_START; the first piece always belongs to word 0.
    """
    starts = (place > 0 and piece.startswith(WORD_START) for place, piece in enumerate(pieces))
    return list(accumulate(map(int, starts)))


class MissingPiece(UserError):
    """A vocabulary lacks the piece of a prefix; `similar` are pieces of its form."""

    def __init__(self, path: Path, piece: str, similar: Sequence[str]) -> None:
        self.lacking = f"no piece {piece}" + (f"; it has {', '.join(similar)}" if similar else "")
        super().__init__(
            f"{path}: this SentencePiece model has {self.lacking}",
            "a prefix must be a piece of its side's vocabulary; tokenizer.symbols adds pieces to a "
            "given vocabulary",
        )


class Tokenizer:
    """Text to token ids and back. Ids carry no start or end marks.

    Those of every text but an empty one begin with `prefix`.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise UserError(f"{path}: there is no such SentencePiece model")
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError):
            raise UserError(f"{path}: this is not a SentencePiece model") from None
        self.path = path
        self.vocab_size: int = self._processor.get_piece_size()
        self.eos_id: int = self._processor.eos_id()
        if self.eos_id < 0:
            raise UserError(
                f"{path}: this SentencePiece model has no end-of-sentence mark </s>",
                "train it with an eos_id, or leave out tokenizer.path and let mtrain train one",
            )
        bos_id: int = self._processor.bos_id()
        self.bos_id = bos_id if bos_id >= 0 else self.eos_id
        pad_id: int = self._processor.pad_id()
        self.pad_id = pad_id if pad_id >= 0 else self.eos_id
        self.unknown_id: int = self._processor.unk_id()
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
        number: int = self._processor.piece_to_id(piece)
        if number == self.unknown_id:
            same = piece_of_same_language(piece, self.all_pieces)
            if same is not None:
                return self.id_of(same)
            raise MissingPiece(self.path, piece, self._of_the_form_of(piece))
        return number

    @property
    def mask_id(self) -> int:
        """The id of the piece that stands for a masked token. Raises UserError if there is none."""
        for piece in MASKS:
            number: int = self._processor.piece_to_id(piece)
            if number != self.unknown_id:
                return number
        raise UserError(
            f"{self.path}: this vocabulary has no mask piece ({' or '.join(MASKS)})",
            f'add one with tokenizer.symbols: ["{MASK}"], or let mtrain train a vocabulary',
        )

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
        ids: list[list[int]] = self._processor.encode(list(texts), num_threads=num_threads)
        return self._with_prefix(ids) if self.prefix else ids

    def sample(self, texts: Sequence[str], rate: float, seed: int) -> list[list[int]]:
        """Return the ids of one random segmentation of each text, determined by the seed.

        `rate` is the rate of BPE dropout (Provilkov 2020) or the unigram model's alpha (Kudo 2018).
        """
        sampled: list[list[int]] = []

        def encode() -> None:
            sentencepiece.set_random_generator_seed(seed)
            for text in texts:
                sampled.append(
                    self._processor.encode(text, enable_sampling=True, alpha=rate, nbest_size=-1)
                )

        # SentencePiece has one generator per thread and seeds it at the thread's first use
        thread = threading.Thread(target=encode)
        thread.start()
        thread.join()
        return self._with_prefix(sampled)

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each sequence of ids, without the prefix."""
        start = len(self.prefix)
        bare = [list(row[start:] if list(row[:start]) == self.prefix else row) for row in ids]
        texts: list[str] = self._processor.decode(bare)
        return texts

    @property
    def ordinary_ids(self) -> list[int]:
        """The ids that a text can have, but for <unk>."""
        model = self._processor
        special = model.is_control, model.is_unknown, model.is_unused
        return [i for i in range(self.vocab_size) if not any(is_so(i) for is_so in special)]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the piece of each id."""
        pieces: list[str] = self._processor.id_to_piece(list(ids))
        return pieces

    @property
    def all_pieces(self) -> list[str]:
        """The piece of every id, in order."""
        return self.pieces(range(self.vocab_size))

    def text_pieces(self) -> set[str]:
        """Return the pieces of text: no marks, no bytes of byte fallback, and no blank alone."""
        ids = [i for i in self.ordinary_ids if not self._processor.is_byte(i)]
        return set(self.pieces(ids)) - {WORD_START}


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class TokenizerPair:
    """The tokenizers of the two sides; one object if they share a vocabulary."""

    source: Tokenizer
    target: Tokenizer

    @staticmethod
    def load(folder: Path) -> "TokenizerPair":
        """Read `shared.model`, or `source.model` and `target.model`, from a folder."""
        if (folder / "shared.model").is_file():
            shared = Tokenizer(folder / "shared.model")
            return TokenizerPair(shared, shared)
        return TokenizerPair(Tokenizer(folder / "source.model"), Tokenizer(folder / "target.model"))

    def with_prefixes(self, prefixes: tuple[Sequence[str], Sequence[str]]) -> "TokenizerPair":
        """Return the same tokenizers with these pieces before each source and each target.

        Raises UserError if a vocabulary lacks a piece.
        """
        if not any(prefixes):
            return self
        source, target = prefixes
        return TokenizerPair(self.source.with_prefix(source), self.target.with_prefix(target))

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


def train_tokenizer(sentences: Iterable[str], config: TokenizerConfig, model_path: Path) -> int:
    """Train a SentencePiece model into `model_path` and return its vocabulary size.

    If the text cannot fill the vocabulary, lowers its size to the possible one, with a warning.
    """
    kept = list(sentences)
    vocab_size = config.vocab_size
    while True:
        try:
            _train(kept, config, vocab_size, model_path)
            return vocab_size
        except RuntimeError as error:
            vocab_size = _possible_size(str(error), vocab_size, len(kept))


def _train(
    sentences: list[str], config: TokenizerConfig, vocab_size: int, model_path: Path
) -> None:
    with model_path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=file,
            model_type=config.type,
            vocab_size=vocab_size,
            character_coverage=config.character_coverage,
            normalization_rule_name=config.normalization,
            byte_fallback=True,
            user_defined_symbols=list(dict.fromkeys(config.symbols)),
            pad_id=0,
            unk_id=1,
            bos_id=2,
            eos_id=3,
            num_threads=available_cores(),
            max_sentence_length=16384,
            minloglevel=2,
        )


def _possible_size(message: str, vocab_size: int, num_sentences: int) -> int:
    """Parse the possible size from SentencePiece's error and warn, or raise UserError."""
    too_high = re.search(r"<= (\d+)", message)
    if too_high and int(too_high[1]) < vocab_size:
        possible = int(too_high[1])
        warn(
            f"tokenizer.vocab_size lowered from {vocab_size} to {possible}: "
            f"{num_sentences} training sentences cannot fill more"
        )
        return possible
    too_low = re.search(r"smaller than required_chars\. \d+ vs (\d+)", message)
    if too_low:
        raise UserError(
            f"tokenizer.vocab_size {vocab_size} is too small: the text's characters and the 256 "
            f"bytes alone take {too_low[1]}",
            "raise tokenizer.vocab_size, or lower tokenizer.character_coverage",
        )
    raise UserError(f"SentencePiece cannot be trained on {num_sentences} sentences: {message}")

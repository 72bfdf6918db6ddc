"""Hugging Face's `tokenizer.json` as a tokenizer's backend: WordPiece, byte-level BPE, Metaspace.

The only file that imports `tokenizers`. A piece that begins a word is `dog` among `##s` in
WordPiece and `\u0120dog` in byte-level BPE; here it is `\u2581dog`, as in SentencePiece.

A mark that is written in a text, such as [SEP], is text, as with SentencePiece; `transformers`
takes it for the mark. The mask piece alone is itself in a text.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import tokenizers

from mtrain.errors import UserError
from mtrain.text.tokenizer_backend import MASKS, WORD_START, TokenizerBackend

EOS, BOS = ("[SEP]", "</s>"), ("[CLS]", "<s>")
PAD, UNKNOWN = ("[PAD]", "<pad>"), ("[UNK]", "<unk>")
# pieces of published vocabularies that no text has, and the name that a row of no piece gets
NO_TEXT = re.compile(r"\[unused\d+\]|madeupword\d{4}|<unused \d+>")
BYTES = re.compile(f"{WORD_START}?(<0x[0-9A-F]{{2}}>)+")


class HuggingFaceBackend(TokenizerBackend):
    """A tokenizer in a file `tokenizer.json`."""

    kind = "tokenizer"

    def __init__(self, path: Path, content: bytes | None = None) -> None:
        """Read a file, or the content given in its place.

        Raises `UserError` if it is none, or of another kind, or lacks a mark.
        """
        read = read_tokenizer_json(path, content)
        self._path = path
        for token in read.get("added_tokens") or ():
            if token["content"] in MASKS:
                token["special"] = False  # special ones are text where a text contains them
        with _NoTokenizer(path):
            self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(read))
        self._tokenizer.encode_special_tokens = True
        ids = self._tokenizer.get_vocab(with_added_tokens=True)
        if sorted(ids.values()) != list(range(len(ids))):
            raise UserError(f"{path}: the ids of its {len(ids)} pieces are not 0 to {len(ids) - 1}")
        self.vocab_size = len(ids)
        added = self._tokenizer.get_added_tokens_decoder()
        self._special = {number for number, token in added.items() if token.special}
        self.written = sorted(ids, key=ids.__getitem__)  # the pieces as the file has them
        plain = _form_of_pieces(read, path)
        self._pieces = [
            piece if number in added else plain(piece) for number, piece in enumerate(self.written)
        ]
        self._ids = ids | {piece: number for number, piece in enumerate(self._pieces)}
        self.eos_id = self._mark(EOS, "mark that ends a text")
        self.unknown_id = self._mark(UNKNOWN, "unknown piece")
        self.bos_id = self._first(BOS, self.eos_id)
        self.pad_id = self._first(PAD, self.eos_id)

    def _first(self, names: Sequence[str], otherwise: int) -> int:
        return next((self._ids[name] for name in names if name in self._ids), otherwise)

    def _mark(self, names: Sequence[str], what: str) -> int:
        number = self._first(names, -1)
        if number < 0:
            raise UserError(f"{self._path}: this tokenizer has no {what} ({' or '.join(names)})")
        return number

    @property
    def marks(self) -> tuple[list[int], list[int]]:
        """The marks that `transformers` puts before a text, and those after it."""
        ids = list(self._tokenizer.encode("").ids)
        if not ids:  # it puts the usual ones where the file does not say
            ids = [self.bos_id, self.eos_id]
        return ids[:-1], ids[-1:]

    def encode(self, texts: Sequence[str], num_threads: int) -> list[list[int]]:
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [each.ids for each in encoded]

    def sample(self, texts: Sequence[str], rate: float, seed: int) -> list[list[int]]:
        raise UserError(
            f"{self._path}: training.subword_sampling needs a SentencePiece model",
            "leave out training.subword_sampling",
        )

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        texts = self._tokenizer.decode_batch(list(map(list, rows)), skip_special_tokens=True)
        return [text.removeprefix(" ") for text in texts]  # the blank before the first word

    def find(self, piece: str) -> int | None:
        number = self._ids.get(piece)
        return None if number == self.unknown_id else number

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [self._pieces[number] for number in ids]

    def ordinary_ids(self) -> list[int]:
        no_text = self._special | {self.unknown_id}
        return [number for number, piece in enumerate(self.written)
                if number not in no_text and not NO_TEXT.fullmatch(piece)]  # fmt: skip

    def is_byte(self, number: int) -> bool:
        return BYTES.fullmatch(self._pieces[number]) is not None


class _NoTokenizer:
    """Turns the errors of `tokenizers`, which are bare `Exception`s, into one of the user."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if kind in (Exception, ValueError):
            raise UserError(f"{self._path}: this is not a tokenizer.json: {error}") from None


def read_tokenizer_json(path: Path, given: bytes | None = None) -> dict[str, Any]:
    """Return the content of a file without truncation and padding. Raises `UserError` if damaged.

    `given` is what to read in place of the file.
    """
    try:
        content = json.loads(path.read_bytes() if given is None else given)
        tokens = content.get("added_tokens") or ()
        is_one = isinstance(content["model"], dict) and all("content" in each for each in tokens)
    except (OSError, ValueError, RecursionError, AttributeError, KeyError, TypeError):
        is_one = False
    if not is_one:
        raise UserError(f"{path}: this is not a tokenizer.json")
    tokenizer: dict[str, Any] = content
    return tokenizer | {"truncation": None, "padding": None}


def append_to_json(
    path: Path, symbols: Sequence[str], special: bool = False, content: bytes | None = None
) -> bytes:
    """Return the tokenizer in `path` with symbols appended that are never split.

    A symbol that is a piece already keeps its id. `special` ones never result from a text.
    `content` is what to read in place of the file. Raises UserError for a mark such as [SEP].
    """
    tokenizer = read_tokenizer_json(path, content)
    backend = HuggingFaceBackend(path, content)
    ids = {piece: number for number, piece in enumerate(backend.written)}
    ordinary = set(backend.ordinary_ids())
    tokens: list[dict[str, Any]] = list(tokenizer.get("added_tokens") or ())
    present = {token["content"] for token in tokens}
    for symbol in dict.fromkeys(symbols):
        number = ids.setdefault(symbol, len(ids))
        if number < backend.vocab_size and number not in ordinary:
            raise UserError(f"tokenizer.symbols: {symbol} is a mark of {path}", "leave it out")
        if symbol not in present:
            tokens.append({"id": number, "content": symbol, "single_word": False,
                           "lstrip": False, "rstrip": False, "normalized": False,
                           "special": special})  # fmt: skip
    tokenizer["added_tokens"] = sorted(tokens, key=lambda token: int(token["id"]))
    return json.dumps(tokenizer, ensure_ascii=False).encode()


def _form_of_pieces(content: dict[str, Any], path: Path) -> Callable[[str], str]:
    """Return what turns a piece into SentencePiece's form.

    Raises `UserError` for a tokenizer whose pieces do not say where a word begins.
    """
    model = content["model"]
    kind = model.get("type", "BPE")
    steps = json.dumps([content.get("pre_tokenizer"), content.get("decoder")], ensure_ascii=False)
    if kind == "WordPiece":
        prefix = str(model.get("continuing_subword_prefix") or "##")
        return lambda piece: (
            piece.removeprefix(prefix) if piece.startswith(prefix) else WORD_START + piece
        )
    if kind == "BPE" and '"ByteLevel"' in steps:
        bytes_of = {character: byte for byte, character in enumerate(byte_characters())}
        return lambda piece: (
            _text_of_bytes(bytes(bytes_of[character] for character in piece))
            if bytes_of.keys() >= set(piece)
            else piece  # a text never has it
        )
    if kind in ("BPE", "Unigram") and WORD_START in steps:
        return lambda piece: piece
    raise UserError(
        f"{path}: a tokenizer of the kind {kind} whose pieces do not tell where words begin",
        "known: WordPiece, byte-level BPE, and BPE or Unigram with Metaspace",
    )


def byte_characters() -> list[str]:
    """Return the character that stands for each byte in byte-level BPE (GPT-2)."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def _text_of_bytes(piece: bytes) -> str:
    """Return the text of a piece; bytes that are no character by themselves as <0xE2>."""
    text = re.sub(
        "[\udc80-\udcff]",
        lambda found: f"<0x{ord(found[0]) - 0xDC00:02X}>",
        piece.decode("utf-8", "surrogateescape"),
    )
    return text.replace(" ", WORD_START)

"""Hugging Face's `tokenizer.json`: that of a folder to import, and one for a SentencePiece model.

A folder without one has the vocabulary alone: `vocab.txt` of WordPiece, or `vocab.json` with
`merges.txt` of byte-level BPE.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtrain.errors import UserError
from mtrain.exchange.huggingface.files import read_json
from mtrain.text.tokenizer import MASK, WORD_START, Tokenizer
from mtrain.text.tokenizer_huggingface import HuggingFaceBackend, append_to_json
from mtrain.text.tokenizer_model import SentencePieceContent

WORDPIECE_MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA_MARKS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


def read_tokenizer(folder: Path, num_rows: int) -> tuple[bytes, str | None]:
    """Return a folder's tokenizer.json with a piece for each row, and the piece before every text.

    Raises `UserError` if there is none, if it has more pieces than rows, or other marks.
    """
    path, content = _content(folder)
    backend = HuggingFaceBackend(path, content)
    if backend.vocab_size > num_rows:
        raise UserError(
            f"{path}: {backend.vocab_size} pieces, but the table of embeddings has only {num_rows} "
            "rows",
            "the files of the tokenizer are not those of this model",
        )
    before, after = backend.marks
    if after != [backend.eos_id] or len(before) > 1:
        marks = backend.pieces([*before, *after])
        raise UserError(
            f"{path}: a text stands between the marks {' '.join(marks)}; mtrain has at most one "
            "before it, and one after it"
        )
    names = [f"<unused {number}>" for number in range(backend.vocab_size, num_rows)]
    whole = append_to_json(path, names, special=True, content=content)
    return whole, backend.pieces(before)[0] if before else None


def _content(folder: Path) -> tuple[Path, bytes]:
    """Return the file that has the vocabulary, and a tokenizer.json."""
    whole, words, table = (folder / name for name in ("tokenizer.json", "vocab.txt", "vocab.json"))
    if whole.is_file():
        return whole, whole.read_bytes()
    told = folder / "tokenizer_config.json"
    options = read_json(told) if told.is_file() else {}
    if words.is_file():
        return words, _dump(_wordpiece(words, options))
    if table.is_file() and (folder / "merges.txt").is_file():
        return table, _dump(_byte_level(table, options))
    for path in sorted(folder.glob("*.model")):
        raise UserError(
            f"{path}: a SentencePiece model without a tokenizer.json is not read for a BERT",
            'convert it with: python -c "from transformers import AutoTokenizer as T; '
            f"T.from_pretrained('{folder}').save_pretrained('{folder}')\"",
        )
    raise UserError(
        f"{folder}: there is no tokenizer: no tokenizer.json, no vocab.txt, no vocab.json with "
        "merges.txt",
        "a model is imported with its tokenizer; take it from where it was published",
    )


def _dump(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()


def _wordpiece(path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    lines = path.read_text("utf-8", "replace").removesuffix("\n").split("\n")
    vocabulary = {piece.rstrip("\r"): number for number, piece in enumerate(lines)}
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": options.get("tokenize_chinese_chars", True),
        "strip_accents": options.get("strip_accents"),
        "lowercase": options.get("do_lower_case", True),
    }
    return {
        "version": "1.0",
        "added_tokens": _marks(vocabulary, WORDPIECE_MARKS, path),
        "normalizer": normalizer,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": _template(vocabulary, "[CLS]", "[SEP]"),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocabulary},
    }  # fmt: skip


def _byte_level(path: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    vocabulary = read_json(path)
    if not all(isinstance(number, int) for number in vocabulary.values()):
        raise UserError(f"{path}: a table from pieces to ids was expected")
    lines = path.with_name("merges.txt").read_text("utf-8", "replace").split("\n")
    merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    bytes_of = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True,
                "add_prefix_space": options.get("add_prefix_space", False)}  # fmt: skip
    return {
        "version": "1.0",
        "added_tokens": _marks(vocabulary, ROBERTA_MARKS, path),
        "normalizer": None,
        "pre_tokenizer": bytes_of,
        "post_processor": _template(vocabulary, "<s>", "</s>"),
        "decoder": bytes_of,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": merges},
    }


def _marks(
    vocabulary: Mapping[str, int], names: Sequence[str], path: Path | str
) -> list[dict[str, Any]]:
    """Return the marks as the tokens that they are; the blank before a mask belongs to it."""
    if missing := [name for name in names if name not in vocabulary]:
        raise UserError(f"{path}: the vocabulary lacks {', '.join(missing)}")
    marks = [_token(name, vocabulary[name], name == "<mask>") for name in names]
    return sorted(marks, key=lambda mark: int(mark["id"]))


def _token(name: str, number: int, takes_blank: bool, is_special: bool = True) -> dict[str, Any]:
    return {"id": number, "content": name, "single_word": False, "lstrip": takes_blank,
            "rstrip": False, "normalized": False, "special": is_special}  # fmt: skip


def _template(vocabulary: Mapping[str, int], before: str | None, after: str) -> dict[str, Any]:
    """Return what puts marks around a text, or around each of two that are read together."""

    def mark(name: str | None, side: int) -> list[dict[str, Any]]:
        return [] if name is None else [{"SpecialToken": {"id": name, "type_id": side}}]

    first, second = ({"Sequence": {"id": name, "type_id": side}}
                     for side, name in enumerate("AB"))  # fmt: skip
    single = [*mark(before, 0), first, *mark(after, 0)]
    names = [name for name in (before, after) if name is not None]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, second, *mark(after, 1)],
        "special_tokens": {
            name: {"id": name, "ids": [vocabulary[name]], "tokens": [name]} for name in names
        },
    }


def of_sentencepiece(tokenizer: Tokenizer, model: SentencePieceContent) -> dict[str, Any]:
    """Return a tokenizer.json that splits text as a SentencePiece model does.

    A mark that is written in a text is the mark there; the blank before [MASK] belongs to it.
    """
    vocabulary = {piece: number for number, (piece, _) in enumerate(model.pieces)}
    names = tokenizer.written_marks
    added = [_token(name, vocabulary[name], False) for name in dict.fromkeys(names.values())]
    before = tokenizer.pieces(tokenizer.prefix)
    added += [_token(name, vocabulary[name], name == MASK, name in (MASK, *before))
              for name in model.symbols]  # fmt: skip
    steps: list[dict[str, Any]] = []
    if model.charsmap:  # of composed characters alone: tokenizers reads decomposed ones otherwise
        charsmap = base64.b64encode(model.charsmap).decode()
        steps = [{"type": "NFC"}, {"type": "Precompiled", "precompiled_charsmap": charsmap}]
    steps += [{"type": "Replace", "pattern": {"Regex": pattern}, "content": content}
              for pattern, content in ((" {2,}", " "), (" +$", ""))]  # fmt: skip
    spaces = {"type": "Metaspace", "replacement": WORD_START, "prepend_scheme": "first",
              "split": True}  # fmt: skip
    # the name of a byte, written in a text, is text
    apart = {"type": "Split", "pattern": {"Regex": "(?<=<)(?=0x[0-9A-F]{2}>)"},
             "behavior": "Isolated", "invert": False}  # fmt: skip
    return {
        "version": "1.0",
        "added_tokens": sorted(added, key=lambda token: int(token["id"])),
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [spaces, apart]},
        "post_processor": _template(vocabulary, before[0] if before else None, names["eos_token"]),
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": WORD_START}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": _unigram(model, vocabulary[names["unk_token"]]) if model.is_unigram
        else _bpe(model, names["unk_token"]),
    }  # fmt: skip


def _unigram(model: SentencePieceContent, unknown_id: int) -> dict[str, Any]:
    return {"type": "Unigram", "unk_id": unknown_id, "byte_fallback": True,
            "vocab": [[piece, score] for piece, score in model.pieces]}  # fmt: skip


def _bpe(model: SentencePieceContent, unknown: str) -> dict[str, Any]:
    """Return the model with its merges: all pairs of pieces that make a piece, best piece first."""
    ordinary = {piece: score for piece, score in model.pieces if piece in model.ordinary}
    order = {piece: number for number, (piece, _) in enumerate(model.pieces)}
    merges = []
    for piece, _ in sorted(ordinary.items(), key=lambda scored: -scored[1]):
        halves = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        known = [pair for pair in halves if pair[0] in ordinary and pair[1] in ordinary]
        merges += sorted(known, key=lambda pair: (order[pair[0]], order[pair[1]]))
    return {"type": "BPE", "unk_token": unknown, "fuse_unk": True, "byte_fallback": True,
            "vocab": order, "merges": merges}  # fmt: skip

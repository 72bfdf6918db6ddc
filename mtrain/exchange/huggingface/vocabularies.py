"""The vocabularies of a Hugging Face folder: SentencePiece models, and tables of ids.

Marian's ids are those of `vocab.json`, not SentencePiece's. M2M100's are too, with the languages
behind them. NLLB's are in `tokenizer.json`.
"""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtrain.console import warn
from mtrain.errors import UserError
from mtrain.exchange.huggingface.files import read_json
from mtrain.text.tokenizer_model import Marks, renumber

# in the order of their ids; no file of the published folder has them
M2M100_LANGUAGES = """
    af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha
    he hi hr ht hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my
    ne nl no ns oc or pa pl ps pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi
    wo xh yi yo zh zu
"""
UNNAMED = "<unused "  # begins the name that an id of no piece gets
LANGUAGE_TAG = re.compile(r"__[a-z]+__|[a-z]{3}_[A-Z][a-z]{3}")  # M2M100's and NLLB's


@dataclass(frozen=True)
class Vocabulary:
    """One side: the SentencePiece model that splits its text, and the piece of each id."""

    model: Path
    pieces: list[str]


@dataclass(frozen=True)
class Vocabularies:
    """Both sides, one object if all is shared; and the pieces that stand for a language."""

    source: Vocabulary
    target: Vocabulary
    marks: Marks
    tags: Mapping[str, str]  # language: piece
    tags_both_sides: bool  # else the source text alone begins with a tag, that of the target

    @property
    def are_separate(self) -> bool:
        """Whether an id stands for different pieces on the two sides."""
        return self.source.pieces != self.target.pieces

    def with_names(self, size: int) -> "Vocabularies":
        """Return vocabularies of at least `size` ids, those of no piece with names of their own."""
        sides = dict.fromkeys((self.source.model, self.target.model))
        pieces = self.source.pieces
        pieces = [*pieces, *(f"{UNNAMED}{number}>" for number in range(len(pieces), size))]
        named = {model: Vocabulary(model, pieces) for model in sides}
        return replace(self, source=named[self.source.model], target=named[self.target.model])

    def write(self, folder: Path) -> None:
        """Write SentencePiece models with these ids into a tokenizer folder."""
        one = self.source is self.target
        sides = {"shared": self.source} if one else {"source": self.source, "target": self.target}
        for name, side in sides.items():
            path = folder / f"{name}.model"
            nothing = [piece for piece in side.pieces if piece.startswith(UNNAMED)]
            no_text = (*self.tags.values(), *nothing)
            lost = renumber(side.model, path, side.pieces, self.marks, no_text)
            if lost:
                warn(
                    f"{side.model}: {len(lost)} pieces have no id, such as {lost[0]}: a text with "
                    "one is split in another way here, while transformers reads <unk>"
                )

    def prefixes(self, source_lang: str | None, target_lang: str | None) -> dict[str, str]:
        """Return the pieces that texts begin with, as options of the section `tokenizer`.

        Raises UserError if the model has languages, and not these.
        """
        if not self.tags:
            return {}
        target = self._template(target_lang, "target")
        if not self.tags_both_sides:
            return {"source_prefix": target}
        return {"source_prefix": self._template(source_lang, "source"), "target_prefix": target}

    def _template(self, language: str | None, side: str) -> str:
        """Return the piece of a language, with {source_lang} or {target_lang} in its place."""
        tag = self._tag(language, side)
        return tag.replace(str(language), f"{{{side}_lang}}")

    def _tag(self, language: str | None, side: str) -> str:
        if language is not None and language in self.tags:
            return self.tags[language]
        known = sorted(self.tags)
        close = difflib.get_close_matches(language or "", known, n=5, cutoff=0.3) or known[:20]
        more = f" and {len(known) - len(close)} others" if len(close) < len(known) else ""
        problem = f"it has no {language}" if language else f"the {side}'s is not given"
        raise UserError(
            f"this model has several languages, and {problem}",
            f"give --{side}-lang; it has {', '.join(close)}{more}",
        )


def read_vocabularies(folder: Path, about: Mapping[str, Any]) -> Vocabularies:
    """Read the vocabularies of a folder whose config.json is `about`.

    Raises UserError for a file that is missing or does not belong.
    """
    tokenizer = read_json(folder / "tokenizer_config.json")
    if tokenizer.get("language_codes", "m2m100") != "m2m100":
        raise UserError(
            f"{folder / 'tokenizer_config.json'}: language_codes {tokenizer['language_codes']}: "
            "mtrain knows the ids of m2m100's languages alone"
        )
    unknown = str(tokenizer.get("unk_token") or "<unk>")
    has_languages = about["model_type"] == "m2m_100"
    if has_languages:
        source = target = _one_model(folder)
        tags = {piece.strip("_"): piece for piece in source.pieces
                if LANGUAGE_TAG.fullmatch(piece)}  # fmt: skip
    else:
        source, target = _marian(folder, bool(tokenizer.get("separate_vocabs")))
        tags = {piece[2:-2]: piece for piece in source.pieces
                if piece.startswith(">>") and piece.endswith("<<")}  # fmt: skip
    start, end, pad = (
        _piece(target, about, key, folder)
        for key in ("decoder_start_token_id", "eos_token_id", "pad_token_id")
    )
    marks = Marks(unknown, start, end, pad)
    for side in (source, target):
        absent = {unknown, start, end, pad} - set(side.pieces)
        if absent:
            raise UserError(
                f"{folder}: the vocabulary lacks {', '.join(sorted(absent))}",
                "the files of the tokenizer are not those of this model",
            )
    return Vocabularies(source, target, marks, tags, has_languages)


def _marian(folder: Path, is_separate: bool) -> tuple[Vocabulary, Vocabulary]:
    if not (folder / "vocab.json").is_file() and (folder / "spiece.model").is_file():
        raise UserError(
            f"{folder}: this is a Pegasus model with a tokenizer of its own, which is not read",
            "of Pegasus models, those that mtrain has exported are read",
        )
    pieces = _by_id(read_json(folder / "vocab.json"), folder / "vocab.json")
    others = pieces
    if is_separate:
        path = folder / "target_vocab.json"
        others = _by_id(read_json(path), path)
    return (
        Vocabulary(_existing(folder / "source.spm"), pieces),
        Vocabulary(_existing(folder / "target.spm"), others),
    )


def _one_model(folder: Path) -> Vocabulary:
    model = _existing(folder / "sentencepiece.bpe.model")
    table = folder / "vocab.json"
    if table.is_file():  # M2M100
        ids = read_json(table)
        ids |= {
            f"__{code}__": len(ids) + place for place, code in enumerate(M2M100_LANGUAGES.split())
        }
    else:  # NLLB
        table = folder / "tokenizer.json"
        content = read_json(table)
        try:
            ids = dict(content["model"]["vocab"])
            ids |= {added["content"]: added["id"] for added in content["added_tokens"]}
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{table}: this is not a vocabulary of NLLB's kind") from None
    return Vocabulary(model, _by_id(ids, table))


def _by_id(ids: Mapping[str, Any], path: Path) -> list[str]:
    """Return the pieces in the order of their ids, which must be 0, 1, 2, ..."""
    by_id = {number: piece for piece, number in ids.items() if isinstance(number, int)}
    try:
        return [by_id[number] for number in range(len(ids))]
    except KeyError as error:
        raise UserError(f"{path}: {len(ids)} pieces, but none has the id {error}") from None


def _piece(side: Vocabulary, about: Mapping[str, Any], key: str, folder: Path) -> str:
    number = about.get(key)
    if not isinstance(number, int) or not 0 <= number < len(side.pieces):
        raise UserError(
            f"{folder / 'config.json'}: {key} {number} is not an id of the vocabulary, which has "
            f"{len(side.pieces)}"
        )
    return side.pieces[number]


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(
            f"{path}: there is no such file",
            "a model is imported with its SentencePiece models; take them from where it was "
            "published",
        )
    return path

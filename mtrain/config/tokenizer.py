"""The section `tokenizer`: how text is split into tokens."""

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
)

from mtrain.config.corpora import Languages, Piece, check_piece
from mtrain.config.section import FilePath, PositiveInt, Section


def _check_prefix(prefix: str) -> str:
    """Raise ValueError for an unknown {word}; languages replace the known ones."""
    unknown = [word for word in re.findall(r"\{(.*?)\}", prefix) if word not in LANGUAGE_KEYS]
    if unknown:
        raise ValueError(f"{{{unknown[0]}}} is unknown; known: {{source_lang}}, {{target_lang}}")
    if re.search("[{}]", re.sub(r"\{.*?\}", "", prefix)):
        raise ValueError("a brace is missing: write {source_lang} or {target_lang}")
    return prefix


LANGUAGE_KEYS = ("source_lang", "target_lang")
START = "<s>"  # a mark before texts in some given vocabularies
Prefix = Annotated[str, Field(pattern=r"^\S+\z"), AfterValidator(_check_prefix)]
Pieces = tuple[str, ...]  # before each text of one side


class SidePaths(Section):
    """One tokenizer per side."""

    source: FilePath
    """tokenizer of the source side"""
    target: FilePath
    """tokenizer of the target side"""


def _is_one_path(value: Any) -> str:
    return "<sides>" if isinstance(value, dict | SidePaths) else "<one>"


class TokenizerConfig(Section):
    """How text is split into tokens."""

    type: Literal["bpe", "unigram"] = "bpe"
    """type of the SentencePiece model"""
    vocab_size: Annotated[int, Field(ge=300, le=1_000_000)] = 8000
    """vocabulary size, with 256 bytes and 4 special tokens; lowered if the text is too small"""
    shared: bool = True
    """train one model for both languages; false trains one per side"""
    path: (
        Annotated[
            Annotated[FilePath, Tag("<one>")] | Annotated[SidePaths, Tag("<sides>")],
            Discriminator(_is_one_path),
        ]
        | None
    ) = None
    """existing tokenizer to use, or {source: ..., target: ...}; then none is trained. A
    SentencePiece model, or a tokenizer.json of Hugging Face"""
    symbols: tuple[Piece, ...] = ()
    """pieces that are never split, such as language tags; a given model gets them appended"""
    character_coverage: Annotated[float, Field(gt=0.9, le=1)] = 0.9995
    """share of characters covered by the vocabulary; the rest falls back to bytes"""
    normalization: Literal["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity"] = "identity"
    """SentencePiece's normalisation rule; all but identity change some characters of the target"""
    train_sentences: PositiveInt = 500_000
    """maximum sentences to train the tokenizer on, both sides together"""
    source_prefix: Prefix | None = None
    """piece before every source text, such as >>deu<< or, for many languages, <2{target_lang}>"""
    target_prefix: Prefix | None = None
    """piece before every target text, with which every translation begins; it is not printed"""

    @field_validator("source_prefix", "target_prefix")
    @classmethod
    def _is_a_piece(cls, prefix: str | None, given: ValidationInfo) -> str | None:
        if prefix is not None and not (prefix == START and given.data.get("path")):
            check_piece(prefix)
        return prefix

    def prefixes(self, languages: Languages, tag: str | None = None) -> tuple[Pieces, Pieces]:
        """Return the pieces before each source and each target of a corpus in these languages.

        `tag` is the corpus's own piece before each source.
        """
        source, target = (
            () if prefix is None else (_fill(prefix, languages),)
            for prefix in (self.source_prefix, self.target_prefix)
        )
        return (*([tag] if tag else []), *source), target

    def names(self, side: str) -> bool:
        """Return whether a prefix names the language of `side`, source or target."""
        return any(
            f"{{{side}_lang}}" in (prefix or "")
            for prefix in (self.source_prefix, self.target_prefix)
        )

    @property
    def given_json(self) -> str | None:
        """The key of a given tokenizer that is a tokenizer.json, or None if there is none."""
        if isinstance(self.path, SidePaths):
            return next((f"tokenizer.path.{side}: {path}" for side, path in self.path
                         if path.suffix == ".json"), None)  # fmt: skip
        is_json = self.path is not None and self.path.suffix == ".json"
        return f"tokenizer.path: {self.path}" if is_json else None

    def export_limits(self, is_bert: bool) -> dict[str, str]:
        """Return the formats that cannot hold such a tokenizer, and why.

        Hugging Face's tokenizer of a BERT puts marks before every text, such as [CLS]; it knows no
        languages.
        """
        limits = {}
        if self.given_json is not None and not is_bert:
            limits = dict.fromkeys(("huggingface", "ctranslate2"), self.given_json)
        used = [f"tokenizer.{key}" for key in ("source_prefix", "target_prefix")
                if (prefix := getattr(self, key)) is not None
                and not (is_bert and key == "source_prefix" and "{" not in prefix)]  # fmt: skip
        return ({"huggingface": ", ".join(used)} if used else {}) | limits


def _fill(prefix: str, languages: Languages) -> str:
    for key, language in zip(LANGUAGE_KEYS, languages, strict=True):
        prefix = prefix.replace(f"{{{key}}}", language)
    return prefix

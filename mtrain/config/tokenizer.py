"""The section `tokenizer`: how text is split into tokens."""

import re
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from mtrain.config.section import HomePath, PositiveInt, Section

MARKS = ("<pad>", "<unk>", "<s>", "</s>")  # of the vocabularies that are trained here


class SidePaths(Section):
    """One SentencePiece model per side."""

    source: HomePath
    """SentencePiece model of the source side"""
    target: HomePath
    """SentencePiece model of the target side"""


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
            Annotated[HomePath, Tag("<one>")] | Annotated[SidePaths, Tag("<sides>")],
            Discriminator(_is_one_path),
        ]
        | None
    ) = None
    """existing SentencePiece model to use, or {source: ..., target: ...}; then none is trained"""
    symbols: tuple[Annotated[str, Field(pattern=r"^\S+\z")], ...] = ()
    """pieces that are never split, such as language tags; a given model gets them appended"""
    character_coverage: Annotated[float, Field(gt=0.9, le=1)] = 0.9995
    """share of characters covered by the vocabulary; the rest falls back to bytes"""
    normalization: Literal["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity"] = "identity"
    """SentencePiece's normalisation rule; all but identity change some characters of the target"""
    train_sentences: PositiveInt = 500_000
    """maximum sentences to train the tokenizer on, both sides together"""
    source_prefix: str | None = None
    """piece before every source text, such as >>deu<< or __en__; the vocabulary must have it"""
    target_prefix: str | None = None
    """piece before every target text, with which every translation begins; it is not printed"""

    @model_validator(mode="after")
    def _symbols_are_text(self) -> "TokenizerConfig":
        marks = [symbol for symbol in self.symbols
                 if symbol in MARKS or re.fullmatch("<0x[0-9A-F]{2}>", symbol)]  # fmt: skip
        if marks:
            raise ValueError(f"symbols: {marks[0]} is a mark or a byte of the vocabulary")
        return self

    @property
    def prefixes(self) -> tuple[str | None, str | None]:
        """The prefixes of source and target."""
        return self.source_prefix, self.target_prefix

    @property
    def export_limits(self) -> dict[str, str]:
        """The formats that cannot hold such a tokenizer, and why."""
        prefixes = ("source_prefix", "target_prefix")
        used = ", ".join(f"tokenizer.{key}" for key in prefixes if getattr(self, key) is not None)
        return {"huggingface": used} if used else {}

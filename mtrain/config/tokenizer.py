"""The section `tokenizer`: how text becomes tokens."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from mtrain.config.section import HomePath, PositiveInt, Section


class SidePaths(Section):
    """A SentencePiece model for each side."""

    source: HomePath
    """SentencePiece model of the source side"""
    target: HomePath
    """SentencePiece model of the target side"""


def _is_one_path(value: Any) -> str:
    return "<sides>" if isinstance(value, dict | SidePaths) else "<one>"


class TokenizerConfig(Section):
    """How text becomes tokens."""

    type: Literal["bpe", "unigram"] = "bpe"
    """what SentencePiece trains"""
    vocab_size: Annotated[int, Field(ge=300, le=1_000_000)] = 8000
    """pieces, the 256 bytes and 4 marks included; lowered if the text cannot fill it"""
    shared: bool = True
    """one model for both languages; false trains one a side"""
    path: (
        Annotated[
            Annotated[HomePath, Tag("<one>")] | Annotated[SidePaths, Tag("<sides>")],
            Discriminator(_is_one_path),
        ]
        | None
    ) = None
    """use this SentencePiece model, or {source: ..., target: ...}, and train none"""
    character_coverage: Annotated[float, Field(gt=0.9, le=1)] = 0.9995
    """share of the characters that become pieces; the rest is spelled in bytes"""
    normalization: Literal["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity"] = "identity"
    """SentencePiece's rule; identity keeps the target's characters, the others rewrite some"""
    train_sentences: PositiveInt = 500_000
    """most sentences, both sides together, that the tokenizer is trained on"""

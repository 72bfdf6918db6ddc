"""The corpora that the section `data` can name: text files, tables, data sets of the Hub."""

import os
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag

from mtrain.config.section import FilePath, NonNegativeFloat, PositiveInt, Section

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
LanguageCode = str  # any: `prepare` warns of unknown ones, and refuses those in a prefix
MARKS = ("<pad>", "<unk>", "<s>", "</s>")  # of the vocabularies that are trained here


def check_piece(piece: str) -> str:
    """Return the piece; raise ValueError if it is a mark, or a byte of byte fallback."""
    if piece in MARKS or re.fullmatch("<0x[0-9A-F]{2}>", piece):
        raise ValueError(f"{piece} is a mark or a byte of the vocabulary")
    return piece


Piece = Annotated[str, Field(pattern=r"^\S+\z"), AfterValidator(check_piece)]  # never split
Languages = tuple[str, str]  # of source and target
EMPTY_LINES = "empty_lines"  # what separates documents


class _Corpus(Section):
    """What every corpus may say about itself."""

    name: Name | None = None
    """name in reports, scores and stages"""
    source_lang: LanguageCode | None = None
    """language code of its source side; by default data.source_lang"""
    target_lang: LanguageCode | None = None
    """language code of its target side; by default data.target_lang"""


class _TrainCorpus(_Corpus):
    """What every training corpus may say about itself."""

    weight: NonNegativeFloat | None = None
    """share of the training pairs, relative to the other weights; by default its number of pairs"""


class PairFiles(_Corpus):
    """Two line-aligned text files, plain or compressed (gz, xz, zst, bz2)."""

    source: FilePath
    """text file in the source language; like every input it may be a URL, as s3://bucket/a.en"""
    target: FilePath
    """its translation, line by line"""
    documents: Literal["empty_lines"] | FilePath | None = None
    """where documents end: at empty_lines, empty on both sides and no pairs; or a file with the id
    of each line's document"""


class AlignedPairFiles(PairFiles, _TrainCorpus):
    """Text files for training, optionally with word alignments."""

    alignments: FilePath | None = None
    """file of word alignments, one pair a line, as 0-0 1-2: source word - target word, from 0"""


class TableFile(_Corpus):
    """One TSV, JSONL or Parquet file with both sides."""

    path: FilePath
    """the file: .parquet, or .tsv or .jsonl, which may be compressed (.gz, .xz, .zst, .bz2)"""
    fields: tuple[str | int, str | int] | None = None
    """source and target column: a number from 0 in TSV, else a name; a.b is a nested field.
    By default columns 0 and 1, or the two language codes, at the top level or in `translation`"""


class TrainTableFile(TableFile, _TrainCorpus):
    """A table for training."""


class HubDataset(_Corpus):
    """A data set of the Hugging Face Hub, by name or as a local folder."""

    hub: Annotated[str, AfterValidator(os.path.expanduser)]
    """name on the Hub, or a local folder in the Hub's layout or written by `save_to_disk`"""
    config: str | None = None
    """configuration of the data set, such as de-en"""
    split: str = "train"
    """split of the data set"""
    fields: tuple[str | int, str | int] | None = None
    """source and target column, as in a Parquet file"""


class TrainHubDataset(HubDataset, _TrainCorpus):
    """A data set of the Hub for training."""


class PlainText(_Corpus):
    """Text in one language, for masked-language-model training."""

    text: FilePath
    """file with text in the language `lang`: one sentence a line, plain or compressed; with `field`
    a table"""
    lang: LanguageCode
    """language of the text; to be back-translated, that of the source or that of the target"""
    field: str | int | None = None
    """column of a .tsv, .jsonl or .parquet file, by number from 0 in TSV, else by name"""

    @property
    def stem(self) -> str:
        """Its name, or that of its file without suffixes."""
        return self.name or self.text.name.partition(".")[0]


class HubText(_Corpus):
    """Text in one language from a data set of the Hugging Face Hub."""

    hub: Annotated[str, AfterValidator(os.path.expanduser)]
    """name on the Hub, or a local folder in the Hub's layout or written by `save_to_disk`"""
    lang: LanguageCode
    """language of the text"""
    config: str | None = None
    """configuration of the data set, such as 20231101.en"""
    split: str = "train"
    """split of the data set"""
    field: str = "text"
    """column of the text"""


class TrainHubText(HubText, _TrainCorpus):
    """Text of the Hub for training."""


class MonolingualText(PlainText, _TrainCorpus):
    """Text in one language for training: to learn from as it is, or to be back-translated."""

    tag: Piece | None = "<bt>"
    """piece before each back-translated source (Caswell 2019); null for none"""


class FromTrain(Section):
    """A held-out set that `prepare` takes out of the training corpora."""

    from_train: PositiveInt
    """number of different sources, chosen by a hash of the normalised text; all their pairs leave
    train"""


def as_pairs(corpus: "AnyCorpus") -> "Corpus":
    """Return a corpus as pairs to read: text in one language stands on both sides."""
    if isinstance(corpus, PlainText):
        about = {"name": corpus.name, "source_lang": corpus.lang, "target_lang": corpus.lang}
        if corpus.field is None:
            return PairFiles.model_validate({"source": corpus.text, "target": corpus.text, **about})
        return TableFile(path=corpus.text, fields=(corpus.field, corpus.field), **about)
    if isinstance(corpus, HubText):
        return HubDataset(
            name=corpus.name, source_lang=corpus.lang, target_lang=corpus.lang, hub=corpus.hub,
            config=corpus.config, split=corpus.split, fields=(corpus.field, corpus.field),
        )  # fmt: skip
    return corpus


def is_one_text(corpus: "AnyCorpus") -> bool:
    """Return whether both sides of a corpus are the same text."""
    if isinstance(corpus, PairFiles):
        return corpus.source == corpus.target
    if isinstance(corpus, TableFile | HubDataset):
        return corpus.fields is not None and corpus.fields[0] == corpus.fields[1]
    return True


def _corpus_kind(value: Any) -> str:
    keys = value if isinstance(value, dict) else getattr(value, "model_fields_set", ())
    if "hub" in keys and "lang" in keys:
        return "<hub_text>"
    kinds = {"hub": "<hub>", "path": "<table>", "text": "<text>"}
    return next((kind for key, kind in kinds.items() if key in keys), "<pair>")


def _held_out_kind(value: Any) -> str:
    is_corpus = isinstance(value, dict) and value.keys() & {"source", "path", "hub", "text"}
    return "<held>" if isinstance(value, dict | FromTrain) and not is_corpus else "<list>"


Corpus = Annotated[
    Annotated[PairFiles, Tag("<pair>")]
    | Annotated[TableFile, Tag("<table>")]
    | Annotated[HubDataset, Tag("<hub>")],
    Discriminator(_corpus_kind),
]
HeldOutCorpus = Annotated[
    Annotated[PairFiles, Tag("<pair>")]
    | Annotated[TableFile, Tag("<table>")]
    | Annotated[HubDataset, Tag("<hub>")]
    | Annotated[PlainText, Tag("<text>")]
    | Annotated[HubText, Tag("<hub_text>")],
    Discriminator(_corpus_kind),
]
TrainCorpus = Annotated[
    Annotated[AlignedPairFiles, Tag("<pair>")]
    | Annotated[TrainTableFile, Tag("<table>")]
    | Annotated[TrainHubDataset, Tag("<hub>")]
    | Annotated[MonolingualText, Tag("<text>")]
    | Annotated[TrainHubText, Tag("<hub_text>")],
    Discriminator(_corpus_kind),
]
AnyCorpus = Corpus | HeldOutCorpus | TrainCorpus
HeldOutCorpora = Annotated[
    Annotated[list[HeldOutCorpus], Tag("<list>")] | Annotated[FromTrain, Tag("<held>")],
    Discriminator(_held_out_kind),
]

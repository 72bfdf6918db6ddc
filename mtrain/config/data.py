"""The section `data`: the corpora to learn from and to measure on, and what is filtered out."""

import os
from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator

from mtrain.config.section import HomePath, PositiveInt, Section

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class PairFiles(Section):
    """Two line-aligned text files, plain or gz, xz, zst, bz2."""

    source: HomePath
    """text file in the source language"""
    target: HomePath
    """its translation, line by line"""
    name: Name | None = None
    """what reports and scores call it"""


class AlignedPairFiles(PairFiles):
    """The same to learn from, with or without the links between their words."""

    alignments: HomePath | None = None
    """file with the links of a pair a line, as 0-0 1-2: source word - target word, from 0"""


class TableFile(Section):
    """One TSV, JSONL or Parquet file with both sides in it."""

    path: HomePath
    """the file; its kind is told by .tsv, .jsonl or .parquet (then .gz, .xz, .zst, .bz2)"""
    fields: tuple[str | int, str | int] | None = None
    """source and target column: a number from 0 in TSV, else a name; a.b reaches into a record.
    By default columns 0 and 1, or the two languages at the top or inside `translation`"""
    name: Name | None = None
    """what reports and scores call it"""


class HubDataset(Section):
    """A data set of the Hub, by name or as a local folder."""

    hub: Annotated[str, AfterValidator(os.path.expanduser)]
    """name on the Hub, or a local folder: in the Hub's layout, or written by `save_to_disk`"""
    config: str | None = None
    """the data set's configuration, such as de-en"""
    split: str = "train"
    """which split"""
    fields: tuple[str | int, str | int] | None = None
    """source and target column, as in a Parquet file"""
    name: Name | None = None
    """what reports and scores call it"""


def _corpus_kind(value: Any) -> str:
    keys = value if isinstance(value, dict) else getattr(value, "model_fields_set", ())
    return "<hub>" if "hub" in keys else "<table>" if "path" in keys else "<pair>"


Corpus = Annotated[
    Annotated[PairFiles, Tag("<pair>")]
    | Annotated[TableFile, Tag("<table>")]
    | Annotated[HubDataset, Tag("<hub>")],
    Discriminator(_corpus_kind),
]
TrainCorpus = Annotated[
    Annotated[AlignedPairFiles, Tag("<pair>")]
    | Annotated[TableFile, Tag("<table>")]
    | Annotated[HubDataset, Tag("<hub>")],
    Discriminator(_corpus_kind),
]


class FilterConfig(Section):
    """Which training pairs are left out. valid and test are not filtered; only the dev loss does
    without pairs over max_tokens."""

    max_tokens: PositiveInt = 250
    """longest side in tokens, end of sentence included"""
    max_ratio: Annotated[float, Field(ge=1)] = 4.0
    """longer side over shorter side, where the longer has over 10 tokens"""
    drop_identical: bool = True
    """leave out pairs whose two sides are the same"""
    drop_duplicates: bool = True
    """keep the first of equal pairs only"""
    drop_overlap: bool = True
    """leave out pairs that also stand in valid or test"""


class DataConfig(Section):
    """What to learn from, and what to measure on."""

    source_lang: str
    """language code of the source"""
    target_lang: str
    """language code of the target (de, zh-TW, jpn, zho_Hans); also chooses sacreBLEU's tokenizer"""
    train: Annotated[list[TrainCorpus], Field(min_length=1)]
    """the corpora to learn from"""
    valid: Annotated[list[Corpus], Field(min_length=1)]
    """held-out text that steers training: dev loss, dev BLEU, best checkpoint"""
    test: list[Corpus] = Field([])
    """held-out text for `mtrain score`"""
    filters: FilterConfig = FilterConfig()

    @field_validator("valid", "test", mode="before")
    @classmethod
    def _are_not_aligned(cls, corpora: Any) -> Any:
        given = corpora if isinstance(corpora, list) else []
        if any(isinstance(corpus, dict) and "alignments" in corpus for corpus in given):
            raise ValueError("alignments belong to data.train: they guide what is learnt from it")
        return corpora

    @model_validator(mode="after")
    def _test_sets_have_names_of_their_own(self) -> "DataConfig":
        names = [corpus.name or "test" for corpus in self.test]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two test sets are called {name}: give each its own `name`")
        if "valid" in names:
            raise ValueError("a test set cannot be called valid: that is what data.valid is called")
        return self

    @property
    def has_alignments(self) -> bool:
        """Whether some of train comes with links between its words."""
        return any(getattr(corpus, "alignments", None) for corpus in self.train)

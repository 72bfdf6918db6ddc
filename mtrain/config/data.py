"""The section `data`: corpora to train on and held-out ones, and the training filters."""

import os
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mtrain.config.section import HomePath, PositiveInt, Section

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class PairFiles(Section):
    """Two line-aligned text files, plain or compressed (gz, xz, zst, bz2)."""

    source: HomePath
    """text file in the source language"""
    target: HomePath
    """its translation, line by line"""
    name: Name | None = None
    """name in reports and scores"""


class AlignedPairFiles(PairFiles):
    """Text files for training, optionally with word alignments."""

    alignments: HomePath | None = None
    """file of word alignments, one pair a line, as 0-0 1-2: source word - target word, from 0"""


class TableFile(Section):
    """One TSV, JSONL or Parquet file with both sides."""

    path: HomePath
    """the file: .parquet, or .tsv or .jsonl, which may be compressed (.gz, .xz, .zst, .bz2)"""
    fields: tuple[str | int, str | int] | None = None
    """source and target column: a number from 0 in TSV, else a name; a.b is a nested field.
    By default columns 0 and 1, or the two language codes, at the top level or in `translation`"""
    name: Name | None = None
    """name in reports and scores"""


class HubDataset(Section):
    """A data set of the Hugging Face Hub, by name or as a local folder."""

    hub: Annotated[str, AfterValidator(os.path.expanduser)]
    """name on the Hub, or a local folder in the Hub's layout or written by `save_to_disk`"""
    config: str | None = None
    """configuration of the data set, such as de-en"""
    split: str = "train"
    """split of the data set"""
    fields: tuple[str | int, str | int] | None = None
    """source and target column, as in a Parquet file"""
    name: Name | None = None
    """name in reports and scores"""


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
    """Filters on training pairs. They do not apply to held-out text, but the dev loss leaves out
    pairs over max_tokens."""

    max_tokens: PositiveInt = 250
    """maximum tokens on either side, end of sentence included"""
    max_ratio: Annotated[float, Field(ge=1)] = 4.0
    """maximum length ratio in tokens, longer side over shorter, if the longer has over 10"""
    drop_identical: bool = True
    """remove pairs with the same text on both sides"""
    drop_duplicates: bool = True
    """keep only the first of equal pairs"""
    drop_overlap: bool = True
    """remove pairs that also occur in valid, watch or test"""


class DataConfig(Section):
    """Corpora for training, validation and test."""

    source_lang: str
    """language code of the source side"""
    target_lang: str
    """language code of the target side (de, zh-TW, jpn, zho_Hans); selects sacreBLEU's tokenizer"""
    train: list[TrainCorpus]
    """training corpora"""
    valid: list[Corpus]
    """held-out text for dev loss, dev BLEU and chrF, and for choosing the best checkpoint"""
    watch: list[Corpus] = Field([])
    """further dev sets, scored at each validation, which takes longer; they steer nothing and show,
    for example, what fine-tuning forgets"""
    test: list[Corpus] = Field([])
    """held-out text for `mtrain score`"""
    filters: FilterConfig = FilterConfig()

    @field_validator("train", "valid")
    @classmethod
    def _names_a_corpus(cls, corpora: list[Any], info: ValidationInfo) -> list[Any]:
        if not corpora and not (info.context or {}).get("is_of_run"):
            raise ValueError("names no corpus")
        return corpora

    @field_validator("valid", "watch", "test", mode="before")
    @classmethod
    def _are_not_aligned(cls, corpora: Any) -> Any:
        given = corpora if isinstance(corpora, list) else []
        if any(isinstance(corpus, dict) and "alignments" in corpus for corpus in given):
            raise ValueError("alignments belong to data.train: they guide what is learnt from it")
        return corpora

    @model_validator(mode="after")
    def _sets_have_names_of_their_own(self) -> "DataConfig":
        kinds: dict[str, str] = {}  # by name
        for kind, corpora in (("watch", self.watch), ("test", self.test)):
            for name in (corpus.name or kind for corpus in corpora):
                if name == "valid":
                    raise ValueError(
                        f"a {kind} set cannot be called valid: that is what data.valid is called"
                    )
                if name in kinds:
                    both = f"two {kind} sets" if kinds[name] == kind else "a watch and a test set"
                    raise ValueError(f"{both} are called {name}: give each its own `name`")
                kinds[name] = kind
        return self

    @property
    def watch_sets(self) -> dict[str, Corpus]:
        """The watch sets by name."""
        return {corpus.name or "watch": corpus for corpus in self.watch}

    @property
    def test_sets(self) -> dict[str, Corpus]:
        """The test sets by name."""
        return {corpus.name or "test": corpus for corpus in self.test}

    @property
    def steering_corpora(self) -> list[Corpus]:
        """The corpora that decide what a run learns, and must not change on resume."""
        return [*self.train, *self.valid]

    @property
    def corpora(self) -> list[Corpus]:
        """All corpora, the steering ones first."""
        return [*self.steering_corpora, *self.watch, *self.test]

    @property
    def has_alignments(self) -> bool:
        """Whether any training corpus has word alignments."""
        return any(getattr(corpus, "alignments", None) for corpus in self.train)

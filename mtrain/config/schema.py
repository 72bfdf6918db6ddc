"""Every key of a configuration: its name, type, default and one line of explanation.

With models.py and decoding.py the only place where a default is written. Knows nothing of YAML,
files or torch. All models are frozen: nothing changes a configuration after it is loaded.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from mtrain.config.decoding import DecodingConfig
from mtrain.config.models import MODEL_SECTIONS, ModelConfig, TransformerConfig
from mtrain.config.section import (
    MAX_INT,
    HomePath,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Section,
)

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
    """language code of the target; also chooses sacreBLEU's tokenizer"""
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
    normalization: Literal["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity"] = "nmt_nfkc"
    """SentencePiece's rule; identity keeps every character as it is"""
    train_sentences: PositiveInt = 500_000
    """most sentences, both sides together, that the tokenizer is trained on"""


class TrainingConfig(Section):
    """How a model learns, and what is kept of it."""

    batch_tokens: PositiveInt = 4096
    """most tokens of a batch on either side, its little padding included"""
    accumulate: PositiveInt = 1
    """batches an update"""
    max_minutes: PositiveFloat | None = None
    """wall-clock budget that the schedule fits itself to, validation included"""
    max_updates: PositiveInt = Field(
        default_factory=lambda given: 3000 if given.get("max_minutes") is None else MAX_INT
    )
    """when training ends, also the length of the linear and cosine schedules; by default 3000, or
    with max_minutes when those are over"""
    learning_rate: PositiveFloat = 1e-3
    """highest learning rate, reached after the warm-up"""
    warmup_updates: NonNegativeInt = 500
    """updates of linear warm-up"""
    schedule: Literal["linear", "cosine", "inverse_sqrt"] = "linear"
    """after the warm-up: to zero in a line or a cosine, or with 1/sqrt(update)"""
    adam_betas: tuple[Probability, Probability] = (0.9, 0.98)
    """AdamW's decay rates"""
    weight_decay: NonNegativeFloat = 0.0
    """AdamW's decoupled decay, on matrices only"""
    clip_norm: NonNegativeFloat = 1.0
    """largest gradient norm; 0 is no clipping"""
    label_smoothing: Probability = 0.1
    """share of the probability spread over the vocabulary"""
    alignment_weight: NonNegativeFloat = 0.05
    """weight of the loss that guides an attention head by data.train's alignments, if any"""
    subword_sampling: Probability = 0.0
    """sample other segmentations: BPE-dropout rate, or unigram's smoothing alpha; 0 is off"""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 on a GPU that has it, fp16 on one that has not, fp32 on a CPU"""
    compile_layers: bool = True
    """on a GPU, have torch fuse the kernels of a Transformer: slower to start, then faster"""
    valid_every: PositiveInt = 250
    """updates between validations"""
    save_every: PositiveInt | None = None
    """updates between checkpoints, besides the one at each validation"""
    valid_metric: Literal["bleu", "chrf", "loss"] = "bleu"
    """what names the best checkpoint and stops early"""
    patience: NonNegativeInt = 0
    """end after so many validations without a better valid_metric; 0 is never"""
    keep_best: PositiveInt = 1
    """checkpoints kept for their valid_metric"""
    keep_last: PositiveInt = 2
    """checkpoints kept for being the newest"""
    ema_decay: Probability = 0.0
    """translate with an exponential moving average of the weights; 0 is off"""
    average_checkpoints: NonNegativeInt = 0
    """at the end, average the newest so many checkpoints into one more; 0 is off"""
    log_every: PositiveInt = 50
    """updates between lines in metrics.jsonl"""
    tensorboard: bool = False
    """also write TensorBoard events into the run folder (extra: tensorboard)"""

    @model_validator(mode="after")
    def _averaged_checkpoints_are_kept(self) -> "TrainingConfig":
        if self.average_checkpoints > self.keep_last:
            raise ValueError(
                f"average_checkpoints {self.average_checkpoints} needs as many kept: "
                f"set keep_last to {self.average_checkpoints} or more"
            )
        return self


class Config(Section):
    """A run, whole."""

    run_dir: HomePath
    """everything that training leaves and translating needs; can be moved"""
    data_dir: HomePath | None = None
    """what `prepare` writes; several runs may share it. By default RUN_DIR/data"""
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] = 1
    """of initial weights, order of the data, dropout and sampling"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto is the GPU where there is one"""
    data: DataConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = TransformerConfig()
    """an architecture by its `type`, with its own keys"""
    training: TrainingConfig = TrainingConfig()
    decoding: DecodingConfig = DecodingConfig()

    @model_validator(mode="after")
    def _parts_fit(self) -> "Config":
        if self.run_dir.is_relative_to(self.data_path):
            raise ValueError(
                f"data_dir {self.data_path} holds run_dir {self.run_dir}: `prepare` replaces "
                "data_dir as a whole, give it a folder of its own"
            )
        if self.model.tie_embeddings == "all" and not self.shares_vocabulary:
            raise ValueError(
                "model.tie_embeddings: all needs one vocabulary; use decoder, or a shared tokenizer"
            )
        if getattr(self.model, "source_loss", False) and not self.shares_vocabulary:
            raise ValueError("model.source_loss needs one vocabulary; use a shared tokenizer")
        if self.data.filters.max_tokens > self.model.max_positions:
            raise ValueError(
                f"data.filters.max_tokens {self.data.filters.max_tokens} is over "
                f"model.max_positions {self.model.max_positions}: the model could not read them"
            )
        if self.training.subword_sampling and self.data.has_alignments:
            raise ValueError(
                "training.subword_sampling cannot be used with alignments in data.train: "
                "their links are of the tokens that `prepare` wrote"
            )
        return self

    @property
    def shares_vocabulary(self) -> bool:
        """Whether source and target ids mean the same."""
        return self.tokenizer.shared and not isinstance(self.tokenizer.path, SidePaths)

    @property
    def data_path(self) -> Path:
        """Where the data folder is."""
        return self.data_dir or self.run_dir / "data"


# The tags above, by which an error says which member of a union it was in.
UNION_MEMBERS: dict[str, type[BaseModel]] = {
    "<pair>": AlignedPairFiles,
    "<table>": TableFile,
    "<hub>": HubDataset,
    "<sides>": SidePaths,
    **MODEL_SECTIONS,
}

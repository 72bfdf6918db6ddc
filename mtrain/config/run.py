"""The whole configuration of a run, with checks across sections.

All sections are frozen: a loaded configuration never changes.
"""

from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator

from mtrain.config.corpora import (
    AlignedPairFiles,
    AnyCorpus,
    Corpus,
    FromTrain,
    HubText,
    Languages,
    MonolingualText,
    PairFiles,
    PlainText,
    TrainHubDataset,
    TrainHubText,
    TrainTableFile,
    as_pairs,
    is_one_text,
)
from mtrain.config.data import DataConfig
from mtrain.config.decoding import DecodingConfig
from mtrain.config.model import (
    MODEL_SECTIONS,
    BaseRun,
    ExportFormat,
    FeaturesConfig,
    ModelConfig,
    TransformerConfig,
    cannot_hold,
)
from mtrain.config.section import HomePath, Section
from mtrain.config.tokenizer import Pieces, SidePaths, TokenizerConfig
from mtrain.config.training import TrainingConfig
from mtrain.errors import UserError

UNDETERMINED = "und"  # BCP 47


class Config(Section):
    """The configuration of a run."""

    run_dir: HomePath
    """output folder of training, with everything that `translate` needs; it can be moved"""
    data_dir: HomePath | None = None
    """output folder of `prepare`; several runs may share it. By default RUN_DIR/data"""
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] = 1
    """random seed of initial weights, data order, dropout and sampling"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto uses a GPU if there is one, else the CPU"""
    data: DataConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = TransformerConfig()
    """the model; `type` selects the architecture, which decides the other keys"""
    export_to: tuple[ExportFormat, ...] = ()
    """formats that the model must fit: an option that one of them cannot hold is an error"""
    training: TrainingConfig = TrainingConfig()
    decoding: DecodingConfig = DecodingConfig()

    @field_validator("export_to")
    @classmethod
    def _model_fits_the_formats(
        cls, formats: tuple[ExportFormat, ...], given: ValidationInfo
    ) -> tuple[ExportFormat, ...]:
        limits: dict[str, str] = {}
        model, tokenizer = (given.data.get(section) for section in ("model", "tokenizer"))
        if tokenizer is not None:  # otherwise it is itself in error
            limits |= tokenizer.export_limits(getattr(model, "type", None) == "bert")
        if model is not None:
            limits |= model.export_limits
        for name in formats:
            if name in limits:
                raise ValueError(cannot_hold(name, limits[name]))
        return formats

    @model_validator(mode="after")
    def _parts_fit(self) -> "Config":
        if self.run_dir.is_relative_to(self.data_path):
            raise ValueError(
                f"data_dir {self.data_path} holds run_dir {self.run_dir}: `prepare` replaces "
                "data_dir as a whole, give it a folder of its own"
            )
        if self.model.tie_embeddings == "all" and not (
            self.shares_vocabulary or isinstance(self.tokenizer.path, SidePaths)
        ):
            raise ValueError(
                "model.tie_embeddings: all needs one vocabulary; use decoder, or a shared tokenizer"
            )
        if getattr(self.model, "source_loss", False) and not self.shares_vocabulary:
            raise ValueError("model.source_loss needs one vocabulary; use a shared tokenizer")
        longest, told = self.data.filters.max_tokens, ""
        if self.learns_from_text and not all(map(is_one_text, self.data.train)):
            longest, told = 2 * longest, " twice, for both sides of a pair,"
        if longest > self.model.max_positions:
            raise ValueError(
                f"data.filters.max_tokens {self.data.filters.max_tokens}{told} is over "
                f"model.max_positions {self.model.max_positions}: the model could not read them"
            )
        if self.data.has_alignments and (
            self.tokenizer.source_prefix or self.tokenizer.target_prefix
        ):
            raise ValueError(
                "tokenizer.source_prefix and target_prefix cannot be used with alignments in "
                "data.train"
            )
        if self.training.subword_sampling and self.tokenizer.given_json:
            raise ValueError(
                "training.subword_sampling needs a SentencePiece model, and this is none: "
                f"{self.tokenizer.given_json}"
            )
        if self.training.subword_sampling and self.data.has_alignments:
            raise ValueError(
                "training.subword_sampling cannot be used with alignments in data.train: "
                "their links are of the tokens that `prepare` wrote"
            )
        return self

    @model_validator(mode="after")
    def _objective_fits(self) -> "Config":
        if self.learns_from_text != (self.model.type == "bert"):
            raise ValueError(
                f"training.objective: {self.training.objective} does not fit model.type: "
                f"{self.model.type}; a bert learns by masked_lm, and nothing else does"
            )
        if self.learns_from_text:
            wrong = {
                "tokenizer.shared: false": not self.shares_vocabulary,
                "training.subword_sampling": self.training.subword_sampling > 0,
                "alignments in data.train": self.data.has_alignments,
            }
            if found := [name for name, stands in wrong.items() if stands]:
                raise ValueError(f"{found[0]} cannot be used with training.objective: masked_lm")
            return self
        for number, corpus in enumerate(self.data.train):
            has_sides = corpus.source_lang or self.data.source_lang
            if isinstance(corpus, HubText) or (isinstance(corpus, PlainText) and (
                    corpus.field is not None or not has_sides)):  # fmt: skip
                raise ValueError(
                    f"data.train.{number}: text in one language: training.objective: masked_lm "
                    "learns from it; to back-translate a text file, name its source_lang and "
                    "target_lang"
                )
        held_out = (self.data.valid, self.data.watch, self.data.test)
        if any(isinstance(corpus, PlainText | HubText) for corpora in held_out
               if isinstance(corpora, list) for corpus in corpora):  # fmt: skip
            raise ValueError("data: text belongs to data.train: held-out text needs both sides")
        return self

    @model_validator(mode="after")
    def _languages_and_stages_are_reached(self) -> "Config":
        several = sorted({target for _, target in self.data.directions})
        if len(several) > 1 and not self.learns_from_text and not self.tokenizer.names("target"):
            raise ValueError(
                f"data.train has several target languages, {', '.join(several)}, and nothing tells "
                'the model which to write: set tokenizer.source_prefix: "<2{target_lang}>"'
            )
        held_out = [*self.data.valid_corpora, *self.data.watch, *self.data.test_sets.values()]
        others = {target for _, target in map(self.data.languages_of, held_out)} - set(several)
        is_tagged = self.tokenizer.names("target") and self.model.base is not None
        is_tagged |= self.learns_from_text
        if self.data.train and others and not is_tagged:  # a base may know more languages
            raise ValueError(
                f"data: a held-out set is in {sorted(others)[0]}, and the model learns to write "
                f"{', '.join(several)}"
            )
        late = [stage.until for stage in self.data.stages
                if (stage.until or 0) >= self.training.max_updates]  # fmt: skip
        if late:
            raise ValueError(
                f"data.stages: training.max_updates {self.training.max_updates} ends training "
                f"before the stage that begins after update {late[0]}"
            )
        return self

    @property
    def languages(self) -> Languages:
        """The languages to translate from and to: those that `decoding` chooses, or the only ones.

        Raises UserError where a choice is missing, or where the model has no choice.
        """
        chosen = []
        for side, choice, known in zip(
            ("source", "target"),
            (self.decoding.source_lang, self.decoding.target_lang),
            zip(*self.data.directions, strict=True),
            strict=True,
        ):
            is_free = self.tokenizer.names(side)  # its vocabulary decides which languages it has
            only = known[0] if len(set(known)) == 1 else None
            verb = "translates from" if side == "source" else "translates into"
            verb = "reads" if self.learns_from_text else verb
            if choice is not None and not (is_free or choice in known):
                raise UserError(
                    f"decoding.{side}_lang: {choice}: this model {verb} "
                    f"{', '.join(dict.fromkeys(known))}"
                )
            if choice is None and only is None and (is_free or side == "target"):
                raise UserError(
                    f"this model {verb} {', '.join(dict.fromkeys(known))}: choose one",
                    f"translate --{side}-lang {known[0]}; other verbs: "
                    f"--set decoding.{side}_lang={known[0]}",
                )
            chosen.append(choice or only or UNDETERMINED)
        return chosen[0], chosen[1]

    def pairs_of(self, corpus: AnyCorpus) -> Corpus:
        """Return the corpus of pairs to read: monolingual text with its translation beside it, or,
        to learn from text, with itself."""
        if self.learns_from_text or not isinstance(corpus, MonolingualText):
            return as_pairs(corpus)
        source_lang, target_lang = self.data.languages_of(corpus)
        sides = corpus.text, self.translation_of(corpus)
        source, target = sides if corpus.lang == source_lang else sides[::-1]
        return PairFiles(
            name=corpus.stem, source=source, target=target,
            source_lang=source_lang, target_lang=target_lang,
        )  # fmt: skip

    def is_text(self, corpus: AnyCorpus) -> bool:
        """Return whether to learn from one side of a corpus alone, because both are the same."""
        return self.learns_from_text and is_one_text(corpus)

    def other_language(self, corpus: MonolingualText) -> str:
        """Return the language that monolingual text is translated into."""
        source_lang, target_lang = self.data.languages_of(corpus)
        return target_lang if corpus.lang == source_lang else source_lang

    def translation_of(self, corpus: MonolingualText) -> Path:
        """Return the file that `mtrain backtranslate` writes, beside the data folder."""
        folder = self.data_path.with_name(f"{self.data_path.name}-translations")
        return folder / f"{corpus.stem}.{self.other_language(corpus)}"

    @property
    def steering_corpora(self) -> list[Corpus]:
        """The corpora that decide what a run learns, and must not change on resume."""
        return [*map(self.pairs_of, self.data.train), *self.data.valid_corpora]

    @property
    def corpora(self) -> list[Corpus]:
        """All corpora as pairs to read, in the order train, valid, watch, test."""
        return list(map(self.pairs_of, self.data.corpora))

    def prefixes_of(self, corpus: AnyCorpus) -> tuple[Pieces, Pieces]:
        """Return the pieces before each source and each target of a corpus."""
        is_translated = isinstance(corpus, MonolingualText) and not self.learns_from_text
        tag = getattr(corpus, "tag", None) if is_translated else None
        return self.tokenizer.prefixes(self.data.languages_of(corpus), tag)

    @property
    def prefix_pieces(self) -> tuple[frozenset[str], frozenset[str]]:
        """All pieces before sources, and all before targets, of the corpora."""
        pieces = [self.prefixes_of(corpus) for corpus in self.data.corpora]
        source, target = (frozenset(chain(*side)) for side in zip(*pieces, strict=True))
        return source, target

    @property
    def learns_from_text(self) -> bool:
        """Whether the model learns from text alone, not from pairs."""
        return self.training.objective == "masked_lm"

    @property
    def features(self) -> FeaturesConfig | None:
        """The frozen BERT whose states of the source the model reads, if there is one."""
        return getattr(self.model, "features", None)

    @property
    def shares_vocabulary(self) -> bool:
        """Whether source and target use the same vocabulary."""
        return self.tokenizer.shared and not isinstance(self.tokenizer.path, SidePaths)

    @property
    def data_path(self) -> Path:
        """Path of the data folder."""
        return self.data_dir or self.run_dir / "data"


# The members of unions by the tags that pydantic's errors name.
UNION_MEMBERS: dict[str, type[BaseModel]] = {
    "<pair>": AlignedPairFiles,
    "<table>": TrainTableFile,
    "<hub>": TrainHubDataset,
    "<text>": MonolingualText,
    "<hub_text>": TrainHubText,
    "<held>": FromTrain,
    "<sides>": SidePaths,
    "<base>": BaseRun,
    **MODEL_SECTIONS,
}

"""The whole configuration of a run, with checks across sections.

All sections are frozen: a loaded configuration never changes.
"""

from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator

from mtrain.config.agreement import check_sections
from mtrain.config.corpora import (
    AlignedPairFiles,
    AnyCorpus,
    Corpus,
    FromTrain,
    Languages,
    MonolingualText,
    PairFiles,
    TrainHubDataset,
    TrainHubText,
    TrainTableFile,
    as_pairs,
    is_one_text,
)
from mtrain.config.data import DataConfig
from mtrain.config.decoding import DecodingConfig
from mtrain.config.distillation import DistillationConfig
from mtrain.config.model import (
    MODEL_SECTIONS,
    BaseRun,
    ExportFormat,
    FeaturesConfig,
    ModelConfig,
    TransformerConfig,
    cannot_hold,
)
from mtrain.config.protection import SpanPattern
from mtrain.config.section import LocalPath, Section
from mtrain.config.tokenizer import Pieces, SidePaths, TokenizerConfig
from mtrain.config.training import TrainingConfig
from mtrain.errors import UserError

UNDETERMINED = "und"  # BCP 47


class Config(Section):
    """The configuration of a run."""

    run_dir: LocalPath
    """output folder of training, with everything that `translate` needs; it can be moved"""
    data_dir: LocalPath | None = None
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
    distillation: DistillationConfig | None = None
    """what the model learns as the student of other runs; `mtrain distill` is its verb"""

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
    def _sections_fit(self) -> "Config":
        check_sections(self)
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
        to learn from text, with itself; or what a teacher has made of the corpus."""
        if self.is_distilled(corpus):
            return self.distilled_pairs(corpus)
        return self.original_pairs(corpus)

    def original_pairs(self, corpus: AnyCorpus) -> Corpus:
        """Return the corpus of pairs that a teacher may have translated anew."""
        if self.learns_from_text or not isinstance(corpus, MonolingualText):
            return as_pairs(corpus)
        source_lang, target_lang = self.data.languages_of(corpus)
        sides = corpus.text, self.translation_of(corpus)
        source, target = sides if corpus.lang == source_lang else sides[::-1]
        return PairFiles(
            name=corpus.stem, source=source, target=target,
            source_lang=source_lang, target_lang=target_lang,
        )  # fmt: skip

    @property
    def product_size(self) -> float:
        """The size of training's matrix products: rows times inputs times outputs of one."""
        return self.training.batch_tokens * self.model.hidden_width**2

    @property
    def has_distilled_targets(self) -> bool:
        """Whether the targets of training are a teacher's."""
        given = self.distillation
        return given is not None and given.targets != "original" and not self.learns_from_text

    @property
    def kept_top_k(self) -> int | None:
        """How many tokens of the teacher's distributions `prepare` keeps, or None for none."""
        given = self.distillation
        if given is None or not given.weight or self.learns_from_text:
            return None
        return given.top_k

    @property
    def teaches_in_training(self) -> bool:
        """Whether a teacher computes beside the student in training."""
        given = self.distillation
        wanted = given is not None and (given.weight or given.hidden_weight)
        return self.learns_from_text and bool(wanted)

    def is_distilled(self, corpus: AnyCorpus) -> bool:
        """Return whether a teacher has translated the sources of a training corpus anew."""
        if not self.has_distilled_targets or corpus not in self.data.train:
            return False
        return not isinstance(corpus, MonolingualText) or (
            corpus.lang == self.data.languages_of(corpus)[0]
        )

    def distilled_pairs(self, corpus: AnyCorpus) -> PairFiles:
        """Return the files that `mtrain distill` writes for a corpus, beside the data folder."""
        folder = self.data_path.with_name(f"{self.data_path.name}-distilled")
        source_lang, target_lang = self.data.languages_of(corpus)
        number = next(number for number, each in enumerate(self.data.train) if each == corpus)
        return PairFiles(
            name=corpus.name,
            source=folder / f"{number}.source",
            target=folder / f"{number}.target",
            source_lang=source_lang,
            target_lang=target_lang,
        )

    def distilled_from(self, corpus: AnyCorpus) -> Corpus:
        """Return the pairs whose sources the teacher translates for a training corpus."""
        is_text = isinstance(corpus, MonolingualText)
        return as_pairs(corpus) if is_text else self.original_pairs(corpus)

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
        return [*map(self.pairs_of, self.data.train), *self._taken_from, *self.data.valid_corpora]

    @property
    def corpora(self) -> list[Corpus]:
        """All corpora as pairs to read, in the order train, valid, watch, test.

        After train come those that held-out pairs are taken from, where training reads others.
        """
        sides = map(self.pairs_of, self.data.train), map(self.pairs_of, self.data.held_out)
        return [*sides[0], *self._taken_from, *sides[1]]

    @property
    def _taken_from(self) -> list[Corpus]:
        """The corpora that held-out sets are taken from and that a teacher has translated anew."""
        if not any(isinstance(held, FromTrain) for held in (self.data.valid, self.data.test)):
            return []
        pairs = [corpus for corpus in self.data.train if not isinstance(corpus, MonolingualText)]
        return [self.original_pairs(corpus) for corpus in pairs if self.is_distilled(corpus)]

    def prefixes_of(self, corpus: AnyCorpus) -> tuple[Pieces, Pieces]:
        """Return the pieces before each source and each target of a corpus."""
        is_translated = isinstance(corpus, MonolingualText) and not (
            self.learns_from_text or self.is_distilled(corpus)
        )
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
    "<pattern>": SpanPattern,
    "<base>": BaseRun,
    **MODEL_SECTIONS,
}

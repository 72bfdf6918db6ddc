"""The section `data`: corpora to train on and held-out ones, their mix, and filters."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from mtrain.config.corpora import (
    AnyCorpus,
    Corpus,
    FromTrain,
    HeldOutCorpora,
    HeldOutCorpus,
    HubText,
    LanguageCode,
    Languages,
    MonolingualText,
    Name,
    PairFiles,
    PlainText,
    TrainCorpus,
    as_pairs,
)
from mtrain.config.protection import ProtectedSpan, check_different
from mtrain.config.section import NonNegativeFloat, PositiveInt, Section

Check = Literal["language", "script", "letters", "numbers", "html", "near_duplicates", "sentences"]


class Stage(Section):
    """A part of training with its own mix of corpora."""

    mix: dict[Name, NonNegativeFloat]
    """shares of the training pairs by corpus name, relative to each other"""
    until: PositiveInt | None = None
    """update at which the next stage begins"""
    plateau: PositiveInt | None = None
    """the next stage begins after so many validations in a row without a better valid_metric"""

    @model_validator(mode="after")
    def _mixes_something(self) -> "Stage":
        if not sum(self.mix.values()):
            raise ValueError("mix: the shares sum to nothing" if self.mix else "names no corpus")
        return self


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
    checks: tuple[Check, ...] = ()
    """further checks; a pair that fails one is removed. `prepare` reports, on a sample, what those
    left out would remove. `language` needs the extra langid"""


class ContextConfig(Section):
    """Consecutive sentences of a document, one text with the piece `<sep>` between them."""

    tokens: PositiveInt = 512
    """maximum tokens of a chunk on either side, end of sentence included. How far each chunk is
    filled is drawn: one sentence, or up to an eighth, a quarter, half or all of these tokens"""


class DataConfig(Section):
    """Corpora for training, validation and test."""

    source_lang: LanguageCode | None = None
    """language code of the source side, for corpora that name none"""
    target_lang: LanguageCode | None = None
    """language code of the target side (de, zh-TW, jpn, zho_Hans), for corpora that name none;
    selects sacreBLEU's tokenizer"""
    train: list[TrainCorpus]
    """training corpora"""
    sampling_temperature: Annotated[float, Field(ge=1, le=100)] = 1.0
    """1 draws pairs in proportion to the corpora's sizes, more evens the shares out: a share is
    size ** (1 / temperature)"""
    stages: list[Stage] = Field([])
    """parts of training, each with its own mix of corpora; by default one part with all corpora"""
    valid: HeldOutCorpora
    """held-out text for dev loss, dev BLEU and chrF, and for choosing the best checkpoint; a list,
    or {from_train: 2000}"""
    watch: list[HeldOutCorpus] = Field([])
    """further dev sets, scored at each validation, which takes longer; they steer nothing and show,
    for example, what fine-tuning forgets"""
    test: HeldOutCorpora = Field([])
    """held-out text for `mtrain score`; a list, or {from_train: 1000}"""
    filters: FilterConfig = FilterConfig()
    protect: Annotated[tuple[ProtectedSpan, ...], AfterValidator(check_different)] = ()
    """spans that translations give back verbatim: placeholders, tags, urls, emails, numbers,
    {regex: 'PN-[0-9]+'}. The model sees a piece in place of each, up to 8 different ones a line"""
    context: ContextConfig | None = None
    """chunks of consecutive sentences to learn from, in the training corpora that name their
    `documents`; then `translate --documents` translates chunks. By default sentences alone"""

    @field_validator("train", "valid")
    @classmethod
    def _names_a_corpus(cls, corpora: Any, info: ValidationInfo) -> Any:
        if not corpora and not (info.context or {}).get("is_of_run"):
            raise ValueError("names no corpus")
        return corpora

    @field_validator("valid", "watch", "test", mode="before")
    @classmethod
    def _belongs_to_train(cls, corpora: Any) -> Any:
        given = [corpus for corpus in corpora if isinstance(corpus, dict)] if (
            isinstance(corpora, list)) else []  # fmt: skip
        for key, reason in (
            ("alignments", "they guide what is learnt from it"),
            ("weight", "held-out text is not sampled"),
        ):
            if any(key in corpus for corpus in given):
                raise ValueError(f"{key} belong{'' if key == 'alignments' else 's'} to data.train: "
                                 f"{reason}")  # fmt: skip
        return corpora

    @model_validator(mode="after")
    def _sets_have_names_of_their_own(self) -> "DataConfig":
        kinds: dict[str, str] = {}  # by name
        for kind, names in (
            ("watch", [corpus.name or "watch" for corpus in self.watch]),
            ("test", list(self.test_languages) if isinstance(self.test, FromTrain) else
             [corpus.name or "test" for corpus in self.test]),
        ):  # fmt: skip
            for name in names:
                if name == "valid":
                    raise ValueError(
                        f"a {kind} set cannot be called valid: that is what data.valid is called"
                    )
                if name in kinds:
                    both = f"two {kind} sets" if kinds[name] == kind else "a watch and a test set"
                    raise ValueError(f"{both} are called {name}: give each its own `name`")
                kinds[name] = kind
        return self

    @field_validator("train", "valid", "watch", "test")
    @classmethod
    def _languages_are_known(cls, corpora: Any, info: ValidationInfo) -> Any:
        for key in ("source_lang", "target_lang"):
            if (
                info.data.get(key, "in error") is None
                and isinstance(corpora, list)
                and any(
                    getattr(corpus, key) is None
                    for corpus in corpora
                    if not isinstance(corpus, PlainText | HubText)
                )
            ):
                raise ValueError(f"{key} is missing: name it in data, or for each corpus")
        return corpora

    @model_validator(mode="after")
    def _languages_stand_in_one_place(self) -> "DataConfig":
        for side in ("source", "target"):
            key, default = f"{side}_lang", getattr(self, f"{side}_lang")
            several = {getattr(corpus, key) or default for corpus in self.train
                       if not isinstance(corpus, PlainText | HubText)}  # fmt: skip
            if default is not None and len(several) > 1:
                raise ValueError(
                    f"{key}: {default} is not the only one, data.train has "
                    f"{', '.join(sorted(several))}: leave it out, and give each corpus its own"
                )
        return self

    @model_validator(mode="after")
    def _monolingual_text_has_a_side(self) -> "DataConfig":
        for number, corpus in enumerate(self.train):
            if isinstance(corpus, MonolingualText) and corpus.lang not in self.languages_of(corpus):
                source, target = self.languages_of(corpus)
                raise ValueError(
                    f"train.{number}.lang: {corpus.lang} is neither its source_lang {source} nor "
                    f"its target_lang {target}"
                )
        return self

    @model_validator(mode="after")
    def _monolingual_text_has_a_name(self) -> "DataConfig":
        stems = [
            corpus.stem
            for corpus in self.train
            if isinstance(corpus, MonolingualText) and (corpus.source_lang or self.source_lang)
        ]  # to be back-translated
        if twice := [stem for stem in stems if stems.count(stem) > 1]:
            raise ValueError(
                f"train: two monolingual corpora are called {twice[0]}: give each its own `name`"
            )
        return self

    @model_validator(mode="after")
    def _mix_is_one(self) -> "DataConfig":
        weights = [corpus.weight for corpus in self.train]
        given = [weight for weight in weights if weight is not None]
        if given and len(given) < len(weights):
            raise ValueError("train: give every corpus a weight, or none")
        if given and not sum(given):
            raise ValueError("train: the weights sum to nothing")
        others = [key for key, is_set in (("weight", bool(given)), ("stages", bool(self.stages)),
                  ("sampling_temperature", self.sampling_temperature != 1)) if is_set]  # fmt: skip
        if len(others) > 1:
            raise ValueError(f"{' and '.join(others)} both set the mix of corpora: keep one")
        return self

    @model_validator(mode="after")
    def _stages_follow_each_other(self) -> "DataConfig":
        known = {corpus.name for corpus in self.train if corpus.name}
        last_until = 0
        for number, stage in enumerate(self.stages):
            where = f"stages.{number}"
            if unknown := sorted(stage.mix.keys() - known):
                raise ValueError(
                    f"{where}.mix: no corpus of data.train is called {unknown[0]}; "
                    f"there are: {', '.join(sorted(known)) or 'none with a name'}"
                )
            is_last, ends = number == len(self.stages) - 1, stage.until or stage.plateau
            if is_last and ends:
                raise ValueError(
                    f"{where}: the last stage lasts to the end: leave out until and plateau"
                )
            if not is_last and not ends:
                raise ValueError(f"{where}: say when the next stage begins: until, or plateau")
            if stage.until is not None and stage.until <= last_until:
                raise ValueError(
                    f"{where}.until: {stage.until} is not after {last_until}, where an earlier "
                    "stage ends"
                )
            last_until = stage.until or last_until
        return self

    def languages_of(self, corpus: AnyCorpus) -> Languages:
        """Return the languages of a corpus: its own, those of the section, or that of its text."""
        own = corpus.lang if isinstance(corpus, PlainText | HubText) else ""
        languages = (corpus.source_lang or self.source_lang, corpus.target_lang or self.target_lang)
        return languages[0] or own, languages[1] or own

    @property
    def directions(self) -> list[Languages]:
        """The different languages (source, target) of the training corpora, in order."""
        imported = self.source_lang or "", self.target_lang or ""  # has no corpora
        return list(dict.fromkeys(map(self.languages_of, self.train))) or [imported]

    def marks_of(self, languages: Languages) -> Languages | tuple[()]:
        """Return what tells pairs in these languages from others of the same text."""
        return languages if len(self.directions) > 1 else ()

    @property
    def valid_corpora(self) -> list[Corpus]:
        """The corpora of valid as pairs; none if it is taken from train."""
        return _listed(self.valid)

    @property
    def watch_sets(self) -> dict[str, Corpus]:
        """The watch sets by name, as pairs."""
        return {corpus.name or "watch": as_pairs(corpus) for corpus in self.watch}

    @property
    def test_sets(self) -> dict[str, Corpus]:
        """The test sets by name, as pairs; none if they are taken from train."""
        return {corpus.name or "test": corpus for corpus in _listed(self.test)}

    @property
    def tests_with_documents(self) -> list[str]:
        """The names of the test sets that say where their documents end."""
        return [name for name, corpus in self.test_sets.items()
                if isinstance(corpus, PairFiles) and corpus.documents is not None]  # fmt: skip

    @property
    def test_languages(self) -> dict[str, Languages]:
        """The languages of each test set by name; one set a direction if taken from train.

        A direction that has only text to back-translate supplies none.
        """
        if isinstance(self.test, FromTrain):
            pairs = [corpus for corpus in self.train if not (
                     isinstance(corpus, MonolingualText | HubText) and self._is_translated(corpus))
                     ]  # fmt: skip
            directions = list(dict.fromkeys(map(self.languages_of, pairs or self.train)))
            if len(directions) == 1:
                return {"test": directions[0]}
            return {f"test-{'-'.join(dict.fromkeys(languages))}": languages
                    for languages in directions}  # fmt: skip
        return {name: self.languages_of(corpus) for name, corpus in self.test_sets.items()}

    def _is_translated(self, corpus: AnyCorpus) -> bool:
        """Return whether text in one language gets a translation as its other side."""
        source_lang, target_lang = self.languages_of(corpus)
        return source_lang != target_lang

    @property
    def corpora(self) -> list[AnyCorpus]:
        """All corpora, in the order train, valid, watch, test."""
        return [*self.train, *self.held_out]

    @property
    def held_out(self) -> list[Corpus]:
        """The held-out corpora that are given as files."""
        return [*self.valid_corpora, *self.watch_sets.values(), *self.test_sets.values()]

    @property
    def has_alignments(self) -> bool:
        """Whether any training corpus has word alignments."""
        return any(getattr(corpus, "alignments", None) for corpus in self.train)


def _listed(corpora: list[HeldOutCorpus] | FromTrain) -> list[Corpus]:
    return [] if isinstance(corpora, FromTrain) else list(map(as_pairs, corpora))

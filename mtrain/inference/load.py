"""Loads the model of a run folder for inference, without the optimiser state."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtrain.checkpoints.format import read_state
from mtrain.config import Config, with_values
from mtrain.config.corpora import Languages
from mtrain.config.purpose import check_fills, not_a_translator, require_context
from mtrain.console import say
from mtrain.data.folders import RunFolder
from mtrain.data.splits import encode
from mtrain.decoding.documents import DocumentTranslator
from mtrain.decoding.engine import Engine
from mtrain.decoding.forced import ForcedDecoder, IdPair
from mtrain.decoding.source_features import SourceFeatures
from mtrain.decoding.translator import Translation, Translator
from mtrain.errors import UserError
from mtrain.exchange import exchange_format
from mtrain.inference.directions import check_same_direction
from mtrain.inference.features import features_of_run
from mtrain.inference.filling import FilledLine, Filler
from mtrain.inference.linking import Linker
from mtrain.inference.search import searches_with_mkl, torch_engine
from mtrain.inference.weights import languages_of_text, load_model
from mtrain.models import Model, SearchedModel, TranslationModel, alignment_head
from mtrain.models.bert import Bert
from mtrain.models.ensemble import Ensemble
from mtrain.runtime.onednn import multiply_with_mkl
from mtrain.runtime.precision import Precision, choose_precision
from mtrain.text.tokenizer import MissingPiece, TokenizerPair


@dataclass(frozen=True)
class LoadedRun:
    """A run's model with its configuration and tokenizers. No method changes the model.

    Methods that take no languages work in those that the configuration chooses. With `others`, it
    translates as an ensemble; all else, such as alignments, is its own.
    """

    config: Config
    tokenizers: TokenizerPair
    model: Model
    precision: Precision
    checkpoint: Path
    source_features: SourceFeatures | None = None  # None: the model reads none
    others: tuple["LoadedRun", ...] = ()  # whose probabilities are averaged with its own

    def translate(
        self, lines: Iterable[str], alignments: bool = False, **decoding: Any
    ) -> list[Translation]:
        """Return the translation of each line; that of an empty line is empty.

        `decoding` are options of the section `decoding`: beam_size=1, n_best=5, method="sample".
        With `alignments`, each translation's `links` connect source and target words. Raises
        `UserError` for an unknown option or an invalid value.
        """
        run = self.with_decoding(**decoding) if decoding else self
        raw = [line.encode("utf-8", "surrogatepass") for line in lines]
        translations = run.translator().translate(raw)
        if not alignments:
            return translations
        links = run.linker().link_translations(raw, translations)
        return [replace(translation, links=frozenset(found))
                for translation, found in zip(translations, links, strict=True)]  # fmt: skip

    def with_decoding(self, **options: Any) -> "LoadedRun":
        """Return the same run with other options in the section `decoding`."""
        config, precision = with_values(self.config, "decoding", options), self.precision
        if "precision" in options:
            precision = choose_precision(config.decoding.precision, config.device)
        return replace(self, config=config, precision=precision)

    @property
    def prefixed_tokenizers(self) -> TokenizerPair:
        """The tokenizers with the prefixes of the chosen languages.

        Raises UserError if the model lacks a language, or if a choice is missing.
        """
        return self._tokenizers_for(self.config.languages)

    @property
    def text_tokenizers(self) -> TokenizerPair:
        """The tokenizers with the prefixes of a text of any language, for a model of texts.

        Raises UserError if the prefixes name a language, and none is chosen.
        """
        return self._tokenizers_for(languages_of_text(self.config))

    def _tokenizers_for(self, languages: Languages) -> TokenizerPair:
        try:
            return self.tokenizers.with_prefixes(self.config.tokenizer.prefixes(languages))
        except MissingPiece as error:
            raise UserError(
                f"this model does not translate {' to '.join(languages)}: its vocabulary has "
                f"{error.lacking}"
            ) from None

    def translator(self, languages: Languages | None = None) -> Translator:
        """Return a translator with the engine that the configuration names.

        Raises UserError if the model does not translate, or if not all runs of an ensemble
        translate alike between these languages.
        """
        engine, tokenizers = self._engine_for(languages)
        return Translator(engine, tokenizers, self.config.decoding.n_best)

    def document_translator(self, languages: Languages | None = None) -> DocumentTranslator:
        """Return a translator of documents, as `translator` does.

        Raises UserError too if the model has learnt no documents.
        """
        context = require_context(self.config)
        engine, tokenizers = self._engine_for(languages)
        return DocumentTranslator(engine, tokenizers, context.tokens, self.config.decoding)

    def _engine_for(self, languages: Languages | None) -> tuple[Engine, TokenizerPair]:
        """Return the engine that the configuration names, and tokenizers with prefixes."""
        _ = self.translation_model
        languages = languages or self.config.languages
        tokenizers = self._tokenizers_for(languages)
        for other in self.others:
            check_same_direction(self.config, other.config, languages)
        if self.config.decoding.engine == "torch":
            return self._torch_engine(tokenizers), tokenizers
        return self._ctranslate2_engine(tokenizers), tokenizers

    @property
    def translation_model(self) -> TranslationModel:
        """The model. Raises UserError if it does not translate."""
        if not isinstance(self.model, TranslationModel):
            raise not_a_translator(self.config)
        return self.model

    @property
    def searched_model(self) -> SearchedModel:
        """What search asks: the model, or the ensemble. Raises UserError for one of BERTs."""
        models = [run.translation_model for run in self.runs]
        return Ensemble(models) if self.others else models[0]

    @property
    def runs(self) -> tuple["LoadedRun", ...]:
        """All runs that translate together, this one first."""
        return (self, *self.others)

    @property
    def num_parameters(self) -> int:
        """The number of parameters of all runs that translate together."""
        return sum(weight.numel() for run in self.runs for weight in run.model.parameters())

    @property
    def masked_model(self) -> Bert:
        """The model. Raises UserError if it does not predict masked tokens."""
        check_fills(self.config)
        assert isinstance(self.model, Bert)
        if not self.has_head:
            run = self.config.run_dir
            raise UserError(
                f"{run}: this BERT was imported without the head that predicts masked tokens",
                "its hidden states can be used; to train a head: "
                f"model: {{init_from: {run}}}, training: {{objective: masked_lm}}",
            )
        return self.model

    @property
    def has_head(self) -> bool:
        """Whether the output layer was trained: a BERT can be imported without one."""
        is_lacking: bool = read_state(self.checkpoint).get("lacks_head", False)
        return not is_lacking

    def _torch_engine(self, tokenizers: TokenizerPair) -> Engine:
        model = self.searched_model
        if searches_with_mkl(model, self.precision):
            multiply_with_mkl()
        return torch_engine(model, self.config, tokenizers, self.precision, self.source_features)

    def _ctranslate2_engine(self, tokenizers: TokenizerPair) -> Engine:
        if self.others:
            raise UserError(
                f"decoding.engine: {self.config.decoding.engine}: CTranslate2 searches with one "
                f"model, and these are {len(self.runs)}: "
                + ", ".join(str(run.config.run_dir) for run in self.runs),
                "search with --engine torch, or name one run",
            )
        exchange_format("ctranslate2", f"decoding.engine: {self.config.decoding.engine}")
        from mtrain.exchange.ctranslate2 import open_engine  # needs an extra

        return open_engine(
            self.translation_model,
            self.config,
            tokenizers,
            self.precision.device,
            self.precision.name,
            self.checkpoint,
        )

    def translator_of_export(self, folder: Path, languages: Languages) -> Translator:
        """Return a translator with CTranslate2 on an export of this run in eight bits."""
        exchange_format("ctranslate2", f"{folder}: this export")
        from mtrain.exchange.ctranslate2 import open_export  # needs an extra

        model, tokenizers = self.translation_model, self._tokenizers_for(languages)
        decoding, device = self.config.decoding, self.precision.device
        engine = open_export(folder, tokenizers, decoding, model.max_positions, device)
        return Translator(engine, tokenizers, decoding.n_best)

    def fill(self, lines: Iterable[str], top: int = 5) -> list[FilledLine]:
        """Return the `top` likeliest words for each `[MASK]` of each line.

        Raises `UserError` if the model translates, or has not so many words.
        """
        raw = [line.encode("utf-8", "surrogatepass") for line in lines]
        return self.filler().fill(raw, top)

    def filler(self, needs_head: bool = True) -> Filler:
        """Return what fills masked tokens.

        Raises UserError if the model translates, or lacks the head that predicts, if it needs one.
        """
        check_fills(self.config)
        model, tokenizer = self.masked_model if needs_head else self.model, self.text_tokenizers
        batch_tokens = self.config.decoding.tokens_at_once(self.precision.device.type)
        return Filler(model, tokenizer.source, self.precision, batch_tokens)

    def forced_decoder(self) -> ForcedDecoder:
        """Return a forced decoder for given translations."""
        device, autocast = self.precision.device, self.precision.autocast
        batch_tokens = self.config.decoding.tokens_at_once(device.type)
        head = alignment_head(self.config)
        tokenizers = self.prefixed_tokenizers
        model = self.translation_model
        return ForcedDecoder(
            model, tokenizers, device, autocast, batch_tokens, head, self.source_features
        )

    def linker(self) -> Linker:
        """Return a linker of words by the model's attention."""
        return Linker(self.prefixed_tokenizers, self.forced_decoder())

    def encode_pairs(
        self, sources: Sequence[str], targets: Sequence[str]
    ) -> list[Sequence[IdPair]]:
        """Return the ids of each pair of cleaned lines, as one segment.

        A pair with an empty side has no segment.
        """
        tokenizers = self.prefixed_tokenizers
        masked = tokenizers.protection.protect_pairs(sources, targets)
        source_ids, target_ids = encode(masked.sides, tokenizers)
        return [[pair] if all(pair) else [] for pair in zip(source_ids, target_ids, strict=True)]


def load(path: Path, checkpoint_name: str | None, overrides: Sequence[str]) -> LoadedRun:
    """Return the model of a run folder without printing anything."""
    run = RunFolder.open(path)
    return load_quietly(run, run.config(tuple(overrides)), checkpoint_name)


def load_run(run: RunFolder, config: Config, checkpoint_name: str | None) -> LoadedRun:
    """Return the run's model; print its checkpoint, device and precision."""
    loaded = load_quietly(run, config, checkpoint_name)
    precision = loaded.precision
    say(f"using {loaded.checkpoint} on {precision.device} in {precision.name}")
    return loaded


def load_quietly(run: RunFolder, config: Config, checkpoint_name: str | None) -> LoadedRun:
    """Return the run's model with its best checkpoint, or the named one, and print nothing.

    Raises `UserError` if there is no checkpoint, or if something that belongs to it is missing.
    """
    features = features_of_run(run, config)
    width = 0 if features is None else features.width
    return LoadedRun(config, *load_model(run, config, checkpoint_name, width), features)

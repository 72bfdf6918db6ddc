"""Builds the parts of training from a configuration and its data, and connects them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from mtrain.config import Config
from mtrain.config.corpora import Languages
from mtrain.console import say
from mtrain.data.folders import DataFolder, RunFolder
from mtrain.data.held_out_text import read_held_out
from mtrain.data.makers.base import Maker
from mtrain.data.makers.masked import MaskedMaker
from mtrain.data.makers.packed import PackedMaker
from mtrain.data.makers.padded import BatchMaker
from mtrain.data.manifest import watch_split
from mtrain.data.mixture import Mixture, describe_mixture, mixtures, stage_seed
from mtrain.data.plan import derive_seed
from mtrain.data.store import TokenStore
from mtrain.data.updates import PlannedUpdate, planned_updates
from mtrain.decoding.source_features import SourceFeatures
from mtrain.decoding.translator import Translator
from mtrain.distributed.group import ProcessGroup
from mtrain.errors import UserError
from mtrain.inference.features import BertFeatures, RememberedFeatures, features_to_train
from mtrain.inference.search import searches_with_mkl, torch_engine
from mtrain.inference.teacher import check_taught_by, masked_teacher
from mtrain.models import Head, Model, TranslationModel, alignment_head, build_model
from mtrain.models.bert import Bert
from mtrain.runtime.onednn import multiplying_with_mkl
from mtrain.runtime.precision import Precision, choose_precision
from mtrain.text.protection import Protection
from mtrain.text.tokenizer import TokenizerPair
from mtrain.training.initial import initialise
from mtrain.training.learner import build_learner, computes_in_one_pass
from mtrain.training.log import MetricsLog
from mtrain.training.masked_scorer import MaskedScorer, TextPart
from mtrain.training.objectives import Objective, build_objective
from mtrain.training.saving import Identity, Saver, resumable_checkpoints
from mtrain.training.signals import StopSignal
from mtrain.training.state import TrainState
from mtrain.training.trainer import Trainer
from mtrain.training.translation_scorer import ScoredPart, TranslationScorer
from mtrain.training.updater import Updater
from mtrain.training.validation import Scorer, Validator


@dataclass(frozen=True)
class Setup:
    """An untrained model and everything needed to train it."""

    config: Config
    precision: Precision
    store: TokenStore
    maker: Maker
    identity: Identity
    state: TrainState
    updater: Updater
    validator: Validator
    features: BertFeatures | None  # computes what the model reads beside the source
    mixtures: Sequence[Mixture]  # of each stage
    # all updates of a stage, from (epoch, batch) of its plan
    updates: Callable[[int, int, int], Iterator[PlannedUpdate]]


def build_trainer(setup: Setup, run: RunFolder, group: ProcessGroup, stop: StopSignal) -> Trainer:
    """Return a trainer of the run, resumed from its newest whole checkpoint."""
    config, state, precision = setup.config, setup.state, setup.precision
    training = config.training
    saver = Saver(state, run.checkpoints, training, config.decoding, setup.identity, group)
    validation = saver.resume()
    log = None
    if group.is_first:
        log = MetricsLog(
            run.metrics_path,
            state.position.update,
            training.tensorboard,
            state.position.stage,
        )
        count = sum(parameter.numel() for parameter in state.model.parameters())
        learning = sum(parameter.numel() for parameter in state.parameters)
        parameters = f"{count:,} parameters"
        if learning < count:
            parameters += f" ({learning:,} of them learn, the others are frozen)"
        say(
            f"training {config.model.type}, {parameters}, on {len(setup.store):,} "
            f"{'texts' if config.learns_from_text else 'pairs'}, "
            f"on {precision.device} in {precision.name}: {precision.reason}"
        )
        for number, mixture in enumerate(setup.mixtures, start=1):
            if told := describe_mixture(mixture, config.data):
                say(f"mix of stage {number}: {told}" if len(setup.mixtures) > 1 else f"mix: {told}")
    return Trainer(
        training, config.data.stages, state, setup.updater, setup.updates, setup.validator,
        validation, saver, log, group, stop,
    )  # fmt: skip


def build_setup(config: Config, data: DataFolder, group: ProcessGroup) -> Setup:
    """Build everything on its device; the same seed gives the same initial weights.

    A model with `init_from` starts from that run's weights, unless its own run can resume. Raises
    `UserError` if the batches of an update do not divide evenly among the processes, if the model
    lacks the attention that the configuration names, or if the weights to start from do not fit.
    """
    training = config.training
    if training.accumulate % group.size:
        raise UserError(
            f"training.accumulate {training.accumulate} batches cannot be shared evenly by "
            f"{group.size} processes",
            f"set training.accumulate to a multiple of {group.size}",
        )
    precision = choose_precision(training.precision, config.device, True, config.product_size)
    tokenizers = data.tokenizers().protecting(Protection.of(config.data.protect))
    if config.model.tie_embeddings == "all" and not tokenizers.share_a_vocabulary:
        raise UserError(
            "model.tie_embeddings: all needs one vocabulary, and tokenizer.path names two",
            "set model.tie_embeddings: decoder",
        )
    store = data.store("train")
    mixed = mixtures(config.data, data.corpus_sizes())
    features = features_to_train(config, data)
    if not resumable_checkpoints(RunFolder(config.run_dir).checkpoints):
        check_taught_by(config, data)
    model = _initial_model(config, tokenizers, precision.device, group, features)
    maker = _maker(config, store, tokenizers, model, precision.device.type == "cuda")
    teacher, taught_by = _masked_teacher(config, tokenizers, model, maker)
    objective = build_objective(config, precision, teacher)
    in_one_pass = computes_in_one_pass(precision.device, model.is_capturable, maker.kind)
    state, step = build_learner(model, objective, training, precision, group, in_one_pass)

    def updates(stage: int, epoch: int, batch: int) -> Iterator[PlannedUpdate]:
        planned = planned_updates(
            maker,
            mixed[stage],
            stage_seed(config.seed, stage),
            training.accumulate,
            (epoch, batch),
            (group.rank, group.size),
        )
        if precision.device.type == "cuda":
            planned = (replace(update, batches=[batch.pinned() for batch in update.batches])
                       for update in planned)  # fmt: skip
        return planned

    return Setup(
        config,
        precision,
        store,
        maker,
        Identity(store.fingerprint, tokenizers.digest(), maker.kind, data.path, taught_by),
        state,
        Updater(state, step, group, config.seed),
        _validator(config, data, tokenizers, state.searched, objective, features),
        features,
        mixed,
        updates,
    )


def _initial_model(
    config: Config,
    tokenizers: TokenizerPair,
    device: torch.device,
    group: ProcessGroup,
    features: BertFeatures | None,
) -> Model:
    """Return the model with random weights, or with those that it starts from."""
    torch.manual_seed(derive_seed(config.seed, "weights"))
    sizes = tokenizers.source.vocab_size, tokenizers.target.vocab_size
    model = build_model(config, *sizes, 0 if features is None else features.width).to(device)
    base = config.model.base
    if base is not None and not resumable_checkpoints(RunFolder(config.run_dir).checkpoints):
        report = initialise(model, tokenizers, config.model, base)
        if group.is_first:
            say(report)
    compiles = config.training.compile_layers and config.training.sharding == "none"
    if compiles and device.type == "cuda":
        model.compile_layers()
        model.output.compile_loss()
    return model


def _masked_teacher(
    config: Config, tokenizers: TokenizerPair, student: Model, maker: Maker
) -> tuple[Bert | None, str | None]:
    """Return the BERT that teaches another in training, if one does, and its identity.

    A teacher that no CUDA graph can capture makes its student another such.
    """
    if not config.teaches_in_training:
        return None, None
    assert isinstance(student, Bert)
    assert isinstance(maker, MaskedMaker)
    teacher = masked_teacher(config, tokenizers, student, maker.longest)
    if config.training.compile_layers and student.output.weight.is_cuda:
        teacher.model.compile_layers()
    student.is_capturable &= teacher.model.is_capturable  # both compute in one captured function
    return teacher.model, teacher.identity


def _validator(
    config: Config,
    data: DataFolder,
    tokenizers: TokenizerPair,
    model: Model,
    objective: Objective,
    features: BertFeatures | None,
) -> Validator:
    search = choose_precision(config.decoding.precision, config.device, size=config.product_size)
    if isinstance(model, TranslationModel):
        seen = features and RememberedFeatures(features)
        scorer = _translation_scorers(config, data, tokenizers, search, model, objective, seen)
    else:
        scorer = _masked_scorers(config, data, tokenizers, search)
    watch = {name: scorer(name, watch_split(name)) for name in config.data.watch_sets}
    return Validator(scorer("valid", "valid"), watch)


NewScorer = Callable[[str, str], Scorer]  # of a held-out set's name and its split


def _masked_scorers(
    config: Config, data: DataFolder, tokenizers: TokenizerPair, precision: Precision
) -> NewScorer:
    def scorer(_: str, split: str) -> Scorer:
        store, row, parts = data.store(split), 0, []
        for part, num_texts in data.parts(split, config):
            parts.append(TextPart(part.corpus, np.arange(row, row + num_texts)))
            row += num_texts
        sides = store.source, store.target
        return MaskedScorer(MaskedMaker(*sides, tokenizers.source, config), parts, precision)

    return scorer


def _translation_scorers(
    config: Config,
    data: DataFolder,
    tokenizers: TokenizerPair,
    search: Precision,
    model: TranslationModel,
    objective: Objective,
    features: SourceFeatures | None,
) -> NewScorer:
    head = alignment_head(config)
    if head != Head() or config.decoding.coverage_penalty:
        model.layer_of(head)  # refuse a missing head now, not at the first validation

    @contextmanager
    def translator(languages: Languages) -> Iterator[Translator]:
        prefixed = tokenizers.with_prefixes(config.tokenizer.prefixes(languages))
        with multiplying_with_mkl() if searches_with_mkl(model, search) else nullcontext():
            engine = torch_engine(model, config, prefixed, search, features)
            yield Translator(engine, prefixed, config.decoding.n_best)

    limits = config.model.max_positions, config.training.batch_tokens

    def scorer(name: str, split: str) -> Scorer:
        text, line, row = read_held_out(data.path / "text", name), 0, 0
        parts = []
        for part, num_pairs in data.parts(split, config):
            sources, references = (
                side[line : line + part.lines] for side in (text.sources, text.references)
            )
            rows = np.arange(row, row + num_pairs)
            opener = partial(translator, part.languages)
            parts.append(ScoredPart(part.corpus, part.languages, sources, references, rows, opener))
            line, row = line + part.lines, row + num_pairs
        has_features = features is not None
        maker = BatchMaker(data.store(split), tokenizers, *limits, with_features=has_features)
        return TranslationScorer(maker, parts, objective, search.device)

    return scorer


def _maker(
    config: Config, store: TokenStore, tokenizers: TokenizerPair, model: Model, on_gpu: bool
) -> Maker:
    """Return a maker of masked batches, or of packed batches on a GPU, else of padded ones.

    On a GPU, say why the batches are padded.
    """
    training = config.training
    if config.learns_from_text:
        return MaskedMaker(store.source, store.target, tokenizers.source, config)
    limits = config.model.max_positions, training.batch_tokens
    if on_gpu:
        obstacles = {
            f"model.type: {config.model.type}": not model.takes_packed_sequences,
            "model.features": config.features is not None,
            "training.subword_sampling": training.subword_sampling > 0,
            "alignments in data.train": store.links is not None,
            "distillation.weight": store.teacher is not None,
        }
        found = [name for name, stands in obstacles.items() if stands]
        if not found:
            return PackedMaker(store, tokenizers, *limits)
        say(
            f"{' and '.join(found)}: no packed sequences and no CUDA graphs, so padded batches in "
            "eager execution, several times slower"
        )
    sides = (tokenizers.source, tokenizers.target)
    prefix_ids = [
        {side.id_of(piece) for piece in pieces}
        for side, pieces in zip(sides, config.prefix_pieces, strict=True)
    ]
    return BatchMaker(
        store, tokenizers, *limits, training.subword_sampling, (prefix_ids[0], prefix_ids[1]),
        config.features is not None,
    )  # fmt: skip

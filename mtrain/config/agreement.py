"""Checks that sections of a configuration agree with each other."""

from typing import TYPE_CHECKING

from mtrain.config.corpora import HubText, PlainText, is_one_text
from mtrain.config.tokenizer import SidePaths

if TYPE_CHECKING:
    from mtrain.config.run import Config


def check_sections(config: "Config") -> None:
    """Raise ValueError, with the keys, for the first disagreement."""
    for check in CHECKS:
        check(config)


def _check_parts(config: "Config") -> None:
    """Raise ValueError for values of two sections that exclude each other."""
    if config.run_dir.is_relative_to(config.data_path):
        raise ValueError(
            f"data_dir {config.data_path} holds run_dir {config.run_dir}: `prepare` replaces "
            "data_dir as a whole, give it a folder of its own"
        )
    if config.model.tie_embeddings == "all" and not (
        config.shares_vocabulary or isinstance(config.tokenizer.path, SidePaths)
    ):
        raise ValueError(
            "model.tie_embeddings: all needs one vocabulary; use decoder, or a shared tokenizer"
        )
    if getattr(config.model, "source_loss", False) and not config.shares_vocabulary:
        raise ValueError("model.source_loss needs one vocabulary; use a shared tokenizer")
    longest, told = config.data.filters.max_tokens, ""
    if config.learns_from_text and not all(map(is_one_text, config.data.corpora)):
        longest, told = 2 * longest, " twice, for both sides of a pair,"
    if longest > config.model.max_positions:
        raise ValueError(
            f"data.filters.max_tokens {config.data.filters.max_tokens}{told} is over "
            f"model.max_positions {config.model.max_positions}: the model could not read them"
        )
    if config.data.has_alignments and (
        config.tokenizer.source_prefix or config.tokenizer.target_prefix
    ):
        raise ValueError(
            "tokenizer.source_prefix and target_prefix cannot be used with alignments in data.train"
        )
    if config.training.subword_sampling and config.tokenizer.given_json:
        raise ValueError(
            "training.subword_sampling needs a SentencePiece model, and this is none: "
            f"{config.tokenizer.given_json}"
        )
    if config.training.subword_sampling and config.data.has_alignments:
        raise ValueError(
            "training.subword_sampling cannot be used with alignments in data.train: "
            "their links are of the tokens that `prepare` wrote"
        )


def _check_sharding(config: "Config") -> None:
    """Raise ValueError for what cannot be computed with shared-out weights."""
    if config.training.sharding == "full" and config.features is not None:
        raise ValueError(
            "training.sharding: full cannot be used with model.features: drop-net leaves out "
            "weights, each process others, whose gradients it would have to add to theirs"
        )


def _check_objective(config: "Config") -> None:
    """Raise ValueError for a model or data that the objective does not fit."""
    if config.learns_from_text != (config.model.type == "bert"):
        raise ValueError(
            f"training.objective: {config.training.objective} does not fit model.type: "
            f"{config.model.type}; a bert learns by masked_lm, and nothing else does"
        )
    if config.learns_from_text:
        wrong = {
            "tokenizer.shared: false": not config.shares_vocabulary,
            "training.subword_sampling": config.training.subword_sampling > 0,
            "alignments in data.train": config.data.has_alignments,
            "data.protect": bool(config.data.protect),
        }
        if found := [name for name, stands in wrong.items() if stands]:
            raise ValueError(f"{found[0]} cannot be used with training.objective: masked_lm")
        return
    for number, corpus in enumerate(config.data.train):
        has_sides = corpus.source_lang or config.data.source_lang
        if isinstance(corpus, HubText) or (isinstance(corpus, PlainText) and (
                corpus.field is not None or not has_sides)):  # fmt: skip
            raise ValueError(
                f"data.train.{number}: text in one language: training.objective: masked_lm "
                "learns from it; to back-translate a text file, name its source_lang and "
                "target_lang"
            )
    held_out = (config.data.valid, config.data.watch, config.data.test)
    if any(isinstance(corpus, PlainText | HubText) for corpora in held_out
           if isinstance(corpora, list) for corpus in corpora):  # fmt: skip
        raise ValueError("data: text belongs to data.train: held-out text needs both sides")


def _check_distillation(config: "Config") -> None:
    """Raise ValueError for a distillation that does not fit, or teaches nothing."""
    given = config.distillation
    if given is None:
        return
    is_bert, has_targets = config.learns_from_text, config.has_distilled_targets
    how = "weight: 0.7, hidden_weight: 0.15" if is_bert else "other targets than original"
    wrong = {
        "original_share: all targets are the corpora's own": (
            given.original_share > 0 and not has_targets
        ),
        f"teachers: {len(given.teachers)} runs, and a bert has one teacher: name one": (
            len(given.teachers) > 1 and is_bert
        ),
        "hidden_weight: only a bert learns hidden states": (
            given.hidden_weight > 0 and not is_bert
        ),
        f"nothing is learnt from the teacher: set weight, or {how}": not (
            has_targets or given.weight or given.hidden_weight
        ),
        "alignments in data.train are of other targets": (
            has_targets and config.data.has_alignments
        ),
        "cannot be used with training.consistency, unless it only translates": (
            bool(given.weight or given.hidden_weight) and config.training.consistency is not None
        ),
        "weight: with training.subword_sampling the tokens are others than those whose "
        "distributions `prepare` computes": (
            given.weight > 0 and config.training.subword_sampling > 0
        ),
    }
    if found := [told for told, stands in wrong.items() if stands]:
        raise ValueError(f"distillation: {found[0]}")


def _check_context(config: "Config") -> None:
    """Raise ValueError for chunks that do not fit the model, or for data that have none."""
    context, filters = config.data.context, config.data.filters
    if context is None:
        return
    is_lacking = not any(getattr(corpus, "documents", None) for corpus in config.data.train)
    wrong = {
        f"tokens {context.tokens} is over model.max_positions {config.model.max_positions}: the "
        "model could not read such a chunk": context.tokens > config.model.max_positions,
        f"tokens {context.tokens} is under data.filters.max_tokens {filters.max_tokens}: a single "
        "sentence could be over the budget of a chunk; lower max_tokens, which reports what it "
        "drops, or raise tokens": context.tokens < filters.max_tokens,
        "no corpus of data.train says where its documents end: set documents: empty_lines, or name "
        "a file of document ids": is_lacking and bool(config.data.train),
        "cannot be used with training.objective: masked_lm": config.learns_from_text,
        "cannot be used with model.features, which are of sentences": config.features is not None,
        "cannot be used with distillation, whose teacher translates sentences": (
            config.distillation is not None
        ),
        "cannot be used with alignments in data.train": config.data.has_alignments,
    }
    if found := [told for told, stands in wrong.items() if stands]:
        raise ValueError(f"data.context: {found[0]}")


def _check_reached(config: "Config") -> None:
    """Raise ValueError for a language or a stage that training does not reach."""
    several = sorted({target for _, target in config.data.directions})
    if len(several) > 1 and not config.learns_from_text and not config.tokenizer.names("target"):
        raise ValueError(
            f"data.train has several target languages, {', '.join(several)}, and nothing tells "
            'the model which to write: set tokenizer.source_prefix: "<2{target_lang}>"'
        )
    others = {target for _, target in map(config.data.languages_of, config.data.held_out)}
    others -= set(several)
    is_tagged = config.tokenizer.names("target") and config.model.base is not None
    is_tagged |= config.learns_from_text
    if config.data.train and others and not is_tagged:  # a base may know more languages
        raise ValueError(
            f"data: a held-out set is in {sorted(others)[0]}, and the model learns to write "
            f"{', '.join(several)}"
        )
    late = [stage.until for stage in config.data.stages
            if (stage.until or 0) >= config.training.max_updates]  # fmt: skip
    if late:
        raise ValueError(
            f"data.stages: training.max_updates {config.training.max_updates} ends training "
            f"before the stage that begins after update {late[0]}"
        )


CHECKS = (
    _check_parts, _check_sharding, _check_objective, _check_distillation, _check_context,
    _check_reached,
)  # fmt: skip

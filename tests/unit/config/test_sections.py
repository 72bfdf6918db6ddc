"""The options: a frozen list, each with a line that explains it.

An option is a promise to keep, one more case to test and one more line to read. None is added
here without a reason: say in its doc line what it is for, use it in a test, and then add it to
OPTIONS. Each section has a budget; when it is spent, take one out first.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from mtrain.config.describe import explanation, sections_below, sections_in
from mtrain.config.run import Config

BUDGETS = {"": 12, "data": 40, "tokenizer": 12, "model": 45, "training": 45, "decoding": 25,
           "distillation": 8}  # fmt: skip
CORPUS = "source target documents path fields hub config split name source_lang target_lang"
TEXT = "text lang field"
OPTIONS = {
    "": "run_dir data_dir seed device model export_to distillation",
    "data": "source_lang target_lang train sampling_temperature stages valid watch test protect "
    "context",
    "data.train": f"{CORPUS} alignments weight {TEXT} tag",
    "data.stages": "mix until plateau",
    "data.valid": f"{CORPUS} {TEXT} from_train",
    "data.watch": f"{CORPUS} {TEXT}",
    "data.test": f"{CORPUS} {TEXT} from_train",
    "data.protect": "regex",
    "data.context": "tokens",
    "data.filters": "max_tokens max_ratio drop_identical drop_duplicates drop_overlap checks",
    "tokenizer": "type vocab_size shared path symbols character_coverage normalization "
    "train_sentences source_prefix target_prefix",
    "tokenizer.path": "source target",
    "model.init_from": "run parts layers",
    "model.features": "run layer drop",
    "model.encoder_attention": "type block_size window_blocks global_blocks random_blocks",
    "model": "type init_from dropout token_dropout max_positions tie_embeddings encoder_layers "
    "decoder_layers output_bias d_model num_heads ffn_dim activation attention_dropout norm "
    "norm_type positions norm_epsilon embedding_norm source_attention source_loss cell "
    "bidirectional_layers embedding_dim hidden_dim attention query input_feeding residual "
    "readout features",
    "training": "objective batch_tokens accumulate max_updates max_minutes optimizer learning_rate "
    "warmup_updates schedule adam_betas weight_decay freeze unfreeze learning_rate_scale clip_norm "
    "masked_share mask_whole_words label_smoothing consistency alignment_weight subword_sampling "
    "precision compile_layers gradient_reduction sharding valid_every "
    "save_every valid_metric patience keep_best keep_last ema_decay average_checkpoints "
    "log_every tensorboard",
    "training.consistency": "method weight cut",
    "decoding": "engine precision source_lang target_lang method beam_size length_penalty "
    "length_norm coverage_penalty alignment_layer alignment_head repetition_guard n_best "
    "max_length_ratio temperature top_k top_p batch_tokens buffer_lines context_tokens "
    "context_overlap",
    "distillation": "teachers targets original_share weight temperature top_k hidden_weight",
}
FROZEN = {f"{section}.{key}".removeprefix(".")
          for section, keys in OPTIONS.items() for key in keys.split()}  # fmt: skip


def options(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield the path of every key that takes a value, and its field."""
    for name, field in section.model_fields.items():
        inner = list(sections_in(field.annotation))
        if inner != [field.annotation]:  # more than just a section
            yield prefix + name, field
        for kind in inner:
            yield from options(kind, f"{prefix}{name}.")


def test_the_options_are_those_of_the_frozen_list() -> None:
    assert {path for path, _ in options(Config)} == FROZEN
    # a corpus takes the same keys wherever it is named: they count once
    corpus = "|".join(f"{CORPUS} {TEXT}".split())
    elsewhere = re.compile(rf"data\.(watch|test)\..+|data\.valid\.({corpus})")
    counted = {path for path in FROZEN if not elsewhere.fullmatch(path)}
    sections = Counter(path.split(".")[0] if path.count(".") else "" for path in counted)
    for section, count in sections.items():
        assert count <= BUDGETS[section], section


def test_every_option_is_explained_in_a_line_or_two() -> None:
    sections = set(sections_below(Config))
    told = {(section.__name__, name): explanation(section, name)
            for section in sections for name in section.model_fields}  # fmt: skip
    inner = {(section.__name__, name) for section in sections
             for name, field in section.model_fields.items()
             if list(sections_in(field.annotation)) == [field.annotation]}  # fmt: skip
    assert [key for key, text in told.items() if not text and key not in inner] == []
    assert [key for key, text in told.items() if text.count("\n") > 1] == []


def test_every_option_but_what_to_learn_from_has_a_default() -> None:
    required = {path for path, field in options(Config) if field.is_required()}
    corpus_files = re.compile(
        r"(data\.\w+|tokenizer\.path|model\.init_from|model\.features)\.(source|target|path|hub|run|text|lang|mix|from_train|regex)"
    )
    assert {path for path in required if not corpus_files.fullmatch(path)} == {
        "run_dir",
        "data.train",
        "data.valid",
    }


def test_a_configuration_never_changes_after_it_is_loaded() -> None:
    corpus = {"source": "a.en", "target": "a.de"}
    data = {"source_lang": "en", "target_lang": "de", "train": [corpus], "valid": [corpus]}
    config = Config.model_validate({"run_dir": "run", "data": data})
    with pytest.raises(ValidationError):
        config.training.max_updates = 5
    with pytest.raises(ValidationError):
        config.data.train[0].name = "x"


PAIR = {"source": "a.en", "target": "a.de"}
ALIGNED = PAIR | {"alignments": "a.align"}


def config_of(
    train: Any = PAIR, valid: Any = PAIR, watch: Any = PAIR, test: Any = PAIR, **keys: Any
) -> Config:
    data = {"source_lang": "en", "target_lang": "de", "train": [PAIR, train],
            "valid": [valid], "watch": [watch], "test": [test]}  # fmt: skip
    return Config.model_validate({"run_dir": "run", "data": data, **keys})


@pytest.mark.parametrize("split", ["valid", "watch", "test"])
def test_only_train_may_have_alignments(split: str) -> None:
    assert config_of(train=ALIGNED).data.has_alignments
    assert not config_of().data.has_alignments
    with pytest.raises(ValidationError, match=r"alignments belong to data\.train") as caught:
        config_of(**{split: ALIGNED})
    assert caught.value.errors()[0]["loc"] == ("data", split)


def test_links_cannot_be_used_with_tokens_that_change() -> None:
    config_of(training={"subword_sampling": 0.1})
    with pytest.raises(ValidationError, match="subword_sampling cannot be used with alignments"):
        config_of(train=ALIGNED, training={"subword_sampling": 0.1})

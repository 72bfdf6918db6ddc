"""Runs that translate together, by `mtrain.load(RUN, ensemble=[...])`, and those that cannot."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import mtrain
from mtrain.commands.train import train
from mtrain.config.tokenizer import TokenizerConfig
from mtrain.data.folders import RunFolder
from mtrain.data.makers.padded import pad_pairs
from mtrain.errors import UserError
from mtrain.inference.prepared_teacher import likeliest_tokens
from mtrain.inference.teacher import token_teacher
from mtrain.text.tokenizer import train_tokenizer
from tests.conftest import WORDS
from tests.in_process import SMALL_MODEL, small_config

LINES = ["1 2 3", "", "9 8 7 6", "0"]
RNN = {"type": "rnn", "embedding_dim": 16, "hidden_dim": 16, "max_positions": 40}
TRAINING = {"max_updates": 12, "valid_every": 12}
BERT = {"type": "bert", "encoder_layers": 1, "d_model": 16, "num_heads": 2, "ffn_dim": 32,
        "max_positions": 80}  # fmt: skip


@pytest.fixture(scope="module")
def runs(small_task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a Transformer, an RNN, a copy of the first, and runs that do not fit them."""
    folder = tmp_path_factory.mktemp("ensemble")
    train(small_config(small_task, folder / "transformer", TRAINING))
    train(small_config(small_task, folder / "rnn", TRAINING, RNN))

    def beside(name: str, model: dict[str, Any] | None = None, **settings: Any) -> Path:
        """Make a run of other settings, with the weights and the tokenizer of the first."""
        shutil.copytree(folder / "transformer", folder / name)
        given = {"model": model, "training": TRAINING, **settings}
        config = small_config(small_task, folder / name, **given)
        RunFolder(folder / name).begin_empty(config)
        return folder / name

    data = small_config(small_task, folder).data.model_dump(exclude_defaults=True)
    beside("copy")
    beside("bert", BERT, training={"objective": "masked_lm"})
    beside("features", {**SMALL_MODEL, "features": {"run": folder / "bert"}})
    beside("reverse", data={**data, "source_lang": "words", "target_lang": "digits"})
    beside("tagged", tokenizer={"vocab_size": 320, "source_prefix": "<words>"})
    shutil.rmtree(beside("untrained") / "checkpoints")
    tokenizer = beside("pieces") / "tokenizer" / "shared.model"
    train_tokenizer(WORDS * 10, TokenizerConfig(vocab_size=310), tokenizer)
    return folder


def test_a_run_and_its_copy_translate_as_the_run_alone(runs: Path) -> None:
    alone = mtrain.load(runs / "transformer")
    both = mtrain.load(runs / "transformer", ensemble=[runs / "copy"])
    assert both.num_parameters == 2 * alone.num_parameters
    for options in ({}, {"beam_size": 1}, {"method": "sample", "n_best": 2}):
        wanted, found = (run.translate(LINES, alignments=True, **options)
                         for run in (alone, both))  # fmt: skip
        assert [each.texts for each in found] == [each.texts for each in wanted]
        assert [each.links for each in found] == [each.links for each in wanted]
        for one, other in zip(found, wanted, strict=True):
            assert one.scores == pytest.approx(other.scores, abs=1e-5)


def test_two_architectures_translate_together_in_either_order(runs: Path) -> None:
    names = ("transformer", "rnn")
    alone = [mtrain.load(runs / name).translate(LINES) for name in names]
    together = [mtrain.load(runs / one, ensemble=[runs / other]).translate(LINES)
                for one, other in (names, names[::-1])]  # fmt: skip
    for first, second in zip(*together, strict=True):
        assert first.text == second.text
        assert first.score == pytest.approx(second.score, abs=1e-5)
    assert all(together[0][0].score != found[0].score for found in alone)


def test_a_student_is_taught_the_mean_of_its_teachers(runs: Path, small_task: Path) -> None:
    def teacher(*names: str) -> Any:
        given = {"teachers": [runs / name for name in names], "weight": 0.5}
        return token_teacher(small_config(small_task, runs / "student", distillation=given))

    both = teacher("transformer", "rnn")
    batch = pad_pairs([([20, 21, 22], [30, 31])], both.tokenizers)
    probabilities = []
    for one in (teacher("transformer"), teacher("rnn"), both):
        ids, log_probs = likeliest_tokens(one.model.eval(), batch, 320)
        probabilities.append(torch.zeros(log_probs.shape).scatter(2, ids, log_probs.exp()))
    torch.testing.assert_close(probabilities[2], sum(probabilities[:2]) / 2)
    identities = {teacher(*names).identity
                  for names in (["transformer"], ["rnn"], ["transformer", "rnn"])}  # fmt: skip
    assert len(identities) == 3
    assert teacher("copy", "rnn").identity == both.identity


@pytest.mark.parametrize(
    ("name", "problem", "hint"),
    [
        ("nowhere", "nowhere: there is no such run folder", ""),
        ("transformer", "transformer: this run is named twice", "name each run once"),
        ("rnn/../transformer", "this run is named twice", ""),
        ("bert", "bert: this is a bert model, which fills masked tokens", ""),
        ("features", "features: this model reads the states of a BERT", "without model.features"),
        ("untrained", "untrained: there is no checkpoint yet", "train first"),
        ("pieces", "pieces cannot be averaged: their source vocabularies differ: 320 and 310",
         "/transformer/tokenizer/shared.model"),
        ("reverse", "the second translates words to digits", "the same direction"),
        ("tagged", "prefixes of source and target are none and none, and <words> and none",
         "tokenizer.source_prefix"),
    ],
)  # fmt: skip
def test_what_cannot_translate_together_is_named(
    name: str, problem: str, hint: str, runs: Path
) -> None:
    with pytest.raises(UserError) as refused:
        mtrain.load(runs / "transformer", ensemble=[runs / name]).translate(LINES)
    assert problem in refused.value.message
    assert hint in (refused.value.hint or "")


def test_a_teacher_of_tokens_protects_what_its_student_protects(
    runs: Path, small_task: Path
) -> None:
    data = small_config(small_task, runs).data.model_dump(exclude_defaults=True)
    student = small_config(
        small_task, runs / "student", data={**data, "protect": ["urls", {"regex": "PN-[0-9]+"}]},
        distillation={"teachers": [runs / "transformer"], "weight": 0.5},
    )  # fmt: skip
    with pytest.raises(UserError, match=r"is urls, regex PN-\[0-9\]\+ in one and nothing in"):
        token_teacher(student)


def test_the_engine_of_an_ensemble_is_our_own(runs: Path) -> None:
    both = mtrain.load(runs / "transformer", ensemble=[runs / "rnn"])
    with pytest.raises(UserError, match="CTranslate2 searches with one model, and these are 2"):
        both.translate(LINES, engine="ctranslate2")

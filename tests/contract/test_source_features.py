"""What training and search take for granted of a model that reads a frozen BERT's states as well.

Shapes as in mtrain/models/base.py; F tokens of the BERT, Df its width.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtrain.commands.prepare import prepare
from mtrain.config import Config
from mtrain.data.batch import PairBatch
from mtrain.data.folders import DataFolder, RunFolder
from mtrain.data.store import TokenStore
from mtrain.decoding.beam import beam_search
from mtrain.decoding.greedy import greedy_search
from mtrain.decoding.hypothesis import Marks, Scoring
from mtrain.decoding.sampling import sample_search
from mtrain.errors import UserError
from mtrain.inference.features import RememberedFeatures, keep_features, open_features
from mtrain.models import TranslationModel
from mtrain.nn.feature_attention import Features
from mtrain.nn.prepacked import prepacked
from mtrain.runtime.onednn import can_prepack
from tests.contract.models import FEATURE_WIDTH, MODELS, SOURCE_VOCAB, TARGET_VOCAB, build
from tests.contract.stepping import check_steps
from tests.in_process import (
    BOS_ID,
    EOS_ID,
    SMALL_MODEL,
    assert_same_state,
    learn,
    make_batch,
    open_run,
    real_places,
    run_in_two_sittings,
    small_config,
    train_small_bert,
)

MARKS = Marks((BOS_ID,), EOS_ID)
LENGTHS = [(5, 7), (9, 2), (1, 6), (7, 9), (3, 1)]  # source and target, end marks included
FEATURE_LENGTHS = [4, 11, 2, 9, 1]
KINDS = (
    "transformer-pre-sinusoidal-all",
    "transformer-post-sinusoidal-decoder",
    "transformer-modern",
)

every_kind = pytest.mark.parametrize("name", KINDS)


def new_model(name: str, drop: float = 1.0, **settings: Any) -> TranslationModel:
    """Return a model in which every parameter matters."""
    torch.manual_seed(1)
    features = {"run": "nowhere", "drop": drop}
    model = build({**MODELS[name], "features": features, **settings}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def a_batch() -> PairBatch:
    states = torch.randn(len(LENGTHS), max(FEATURE_LENGTHS), FEATURE_WIDTH,
                         generator=torch.Generator().manual_seed(4))  # fmt: skip
    batch = make_batch(LENGTHS, SOURCE_VOCAB, TARGET_VOCAB)
    lengths = torch.tensor(FEATURE_LENGTHS)
    return replace(batch, features=states.half(), feature_lengths=lengths)


@torch.inference_mode()
def logits_of(model: TranslationModel, batch: PairBatch) -> Tensor:
    return model.logits(batch)


def same(one: Tensor, other: Tensor) -> None:
    torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


@every_kind
def test_step_equals_forward_while_hypotheses_fork_and_sentences_leave(name: str) -> None:
    check_steps(new_model(name), a_batch())


@every_kind
def test_padding_changes_nothing(name: str) -> None:
    model, batch = new_model(name), a_batch()
    assert batch.features is not None
    wide = torch.nn.functional.pad(batch.features, (0, 0, 0, 3))
    is_real = torch.arange(wide.shape[1]) < torch.tensor(FEATURE_LENGTHS)[:, None]
    noisy = torch.where(is_real[:, :, None], wide, torch.randn_like(wide))
    real = real_places(batch)
    padded = logits_of(model, replace(batch, features=noisy))
    same(padded[real], logits_of(model, batch)[real])


@every_kind
def test_a_sentence_alone_equals_the_same_sentence_in_a_batch(name: str) -> None:
    model, batch = new_model(name), a_batch()
    together = logits_of(model, batch)
    for row, alone in enumerate(batch.split(len(LENGTHS))):
        assert alone.features is not None
        assert alone.features.shape == (1, FEATURE_LENGTHS[row], FEATURE_WIDTH)
        same(logits_of(model, alone)[0], together[row, : LENGTHS[row][1]])


@every_kind
def test_the_features_matter_in_the_encoder_and_in_the_decoder(name: str) -> None:
    model, batch = new_model(name), a_batch()
    assert batch.features is not None
    other = replace(batch, features=-batch.features)
    before, after = logits_of(model, batch), logits_of(model, other)
    assert float((before - after).norm() / before.norm()) > 0.01
    with torch.inference_mode():
        kinds = model.attention(batch).keys()
    assert kinds == {"encoder", "decoder", "cross"}
    for stack in ("encoder_features", "decoder_features"):
        deaf = new_model(name)
        for attention in deaf.get_submodule(stack).children():
            torch.nn.init.zeros_(attention.get_parameter("memory_projection.weight"))
        assert not torch.allclose(logits_of(deaf, batch), before, atol=1e-3)


@every_kind
def test_drop_net_takes_one_attention_alone_in_training_and_the_mean_elsewhere(name: str) -> None:
    plain = {"dropout": 0.0, "attention_dropout": 0.0}
    never, always = (new_model(name, drop, **plain) for drop in (0.0, 1.0))
    batch = a_batch()
    same(logits_of(always, batch), logits_of(never, batch))
    same(logits_of(never.train(), batch), logits_of(never.eval(), batch))
    always.train()
    drawn = [logits_of(always, batch)[:, 0] for _ in range(2)]
    assert not torch.allclose(*drawn, atol=1e-3)
    torch.manual_seed(5)
    first = logits_of(always, batch)
    torch.manual_seed(5)
    assert torch.equal(logits_of(always, batch), first)


@every_kind
def test_each_search_reads_the_features(name: str) -> None:
    model, batch = new_model(name), a_batch()
    assert batch.features is not None
    given = batch.source, batch.source_lengths, [6] * len(LENGTHS), MARKS

    @torch.inference_mode()
    def search_all(features: Features | None) -> list[list[list[int]]]:
        seeds = range(len(LENGTHS))
        found = [
            greedy_search(model, *given, source_features=features),
            beam_search(model, *given, 1, 1, Scoring(), features),
            beam_search(model, *given, 3, 3, Scoring(), features),
            sample_search(model, *given, 2, Scoring(), 1.0, 0, 1.0, seeds, features),
        ]
        return [[hypotheses[0].tokens for hypotheses in each] for each in found]

    found = search_all(batch.source_features)
    others = search_all(replace(batch, features=-batch.features).source_features)
    assert found[0] == found[1]
    assert all(one != other for one, other in zip(found, others, strict=True))


@pytest.mark.skipif(not can_prepack(), reason="this torch has no oneDNN")
@every_kind
def test_packed_weights_say_the_same(name: str) -> None:
    model, batch = new_model(name), a_batch()
    same(logits_of(prepacked(model), batch), logits_of(model, batch))


@pytest.fixture(scope="module")
def bert(small_task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a tiny BERT."""
    return train_small_bert(small_task, tmp_path_factory.mktemp("bert") / "bert")


@pytest.fixture(scope="module")
def config(small_task: Path, bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The configuration of a small model that reads it, prepared."""
    folder = tmp_path_factory.mktemp("with-features")
    model = {**SMALL_MODEL, "features": {"run": bert}, "dropout": 0.1}
    config = small_config(small_task, folder / "run", model=model, data_dir=folder / "data")
    prepare(config)
    return config


def test_20_updates_equal_10_and_10_more_after_a_stop_bit_for_bit(
    config: Config, tmp_path: Path
) -> None:
    config = config.model_copy(update={"run_dir": tmp_path / "run"})
    whole, _ = open_run(config)
    learn(whole, 20)
    resumed = run_in_two_sittings(config, 10, 20)
    assert_same_state(whole, resumed)


def test_the_store_has_what_the_bert_says_of_each_line_alone(config: Config, bert: Path) -> None:
    setup, _ = open_run(config)
    store, features = setup.store, open_features(bert, config)
    assert store.features is not None
    for row in (0, 17, len(store) - 1):
        (text,) = store.texts(row, row + 1)
        alone = features.of([text])
        start, end = store.features.offsets[row : row + 2]
        stored = torch.tensor(store.features.vectors[start:end])
        assert stored.shape == (int(alone.lengths[0]), features.width)
        torch.testing.assert_close(stored, alone.states[0], atol=2e-3, rtol=2e-3)


def test_a_line_longer_than_the_bert_reads_at_once_is_read_in_parts(
    config: Config, bert: Path
) -> None:
    features = open_features(bert, config)
    long = " ".join("3141592653589793")
    together = features.of([long, "1 2", ""])
    lengths, num_long = features.lengths([long, "1 2", ""])
    assert together.lengths.tolist() == lengths.tolist()
    assert num_long == 1
    assert lengths[0] > 16
    assert lengths[2] == 1  # the end mark, so that there is always something to attend to
    first = features.of([" ".join("3141592")])
    torch.testing.assert_close(first.states[0, :7], together.states[0, :7], atol=2e-3, rtol=2e-3)
    remembered = RememberedFeatures(features)
    for texts in ([long], ["1 2", long, "1 2"]):
        again, wanted = remembered.of(texts), features.of(texts)
        torch.testing.assert_close(again.states, wanted.states, atol=2e-3, rtol=2e-3)
        assert torch.equal(again.lengths, wanted.lengths)


def test_each_layer_has_its_own_states(config: Config, bert: Path) -> None:
    def of_layer(layer: int) -> Tensor:
        assert config.features is not None
        chosen = config.features.model_copy(update={"layer": layer})
        model = config.model.model_copy(update={"features": chosen})
        reading = config.model_copy(update={"model": model})
        return open_features(bert, reading).of(["1 2 3"]).states

    assert torch.equal(of_layer(-1), of_layer(2))
    assert torch.equal(of_layer(-2), of_layer(1))
    assert not torch.allclose(of_layer(1), of_layer(2), atol=1e-2)


def test_a_damaged_column_is_found(config: Config, tmp_path: Path) -> None:
    data = DataFolder(config.data_path)
    about = data.manifest()["splits"]["valid"]
    given = about["columns"], about["vocab_size"], about["fingerprint"]
    for part in data.path.joinpath("valid").iterdir():
        content = part.read_bytes()
        tmp_path.joinpath(part.name).write_bytes(
            content[:-24] if part.name == "features.tokens" else content
        )
    TokenStore(data.path / "valid", *given)
    with pytest.raises(UserError, match="damaged"):
        TokenStore(tmp_path, *given)


def test_the_run_of_a_bert_in_a_run_is_a_run(config: Config, tmp_path: Path, bert: Path) -> None:
    run = RunFolder(tmp_path)
    features = open_features(bert, config)
    keep_features(features, run)
    copy = open_features(run.features, config)
    assert copy.identity == features.identity
    assert torch.equal(copy.of(["1 2"]).states, features.of(["1 2"]).states)
    keep_features(copy, run)  # nothing to do
    assert open_features(run.features, config).identity == features.identity

"""Word-level distillation: its loss, its batches, and a training that stops and resumes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mtrain.commands.prepare import prepare
from mtrain.commands.train import train
from mtrain.config import Config
from mtrain.data.batch import PairBatch
from mtrain.data.folders import DataFolder
from mtrain.data.makers.padded import BatchMaker
from mtrain.inference.teacher import token_teacher
from mtrain.models import TranslationModel, build_model
from mtrain.runtime.precision import choose_precision
from mtrain.training.objectives import build_objective
from mtrain.training.objectives.distillation import TokenDistillation
from mtrain.training.objectives.prediction import PredictionObjective
from tests.in_process import (
    SMALL_MODEL,
    assert_same_state,
    learn,
    open_run,
    run_in_two_sittings,
    small_config,
    torch_threads,
)

TOP_K, SMOOTHING = 4, 0.1
DECODER_ONLY = {"type": "decoder_only", "decoder_layers": 1, "d_model": 16, "num_heads": 2,
                "max_positions": 40, "source_attention": "causal", "source_loss": True,
                "dropout": 0.0}  # fmt: skip


@pytest.fixture(scope="module")
def taught(small_task: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The configuration of a student whose data are prepared by a teacher of a few updates."""
    folder = tmp_path_factory.mktemp("taught")
    train(small_config(small_task, folder / "teacher", {"max_updates": 100, "valid_every": 100}))
    config = student_of(small_task, folder, {})
    prepare(config)
    return config


def student_of(task: Path, folder: Path, keys: dict[str, Any], **sections: Any) -> Config:
    given = {"teachers": [folder / "teacher"], "targets": "original", "weight": 0.5,
             "top_k": TOP_K, **keys}  # fmt: skip
    tokenizer = {"path": folder / "teacher" / "tokenizer" / "shared.model"}
    return small_config(task, folder / "student", sections.pop("training", None),
                        data_dir=folder / "data", tokenizer=tokenizer, distillation=given,
                        **sections)  # fmt: skip


def changed(config: Config, **keys: Any) -> Config:
    """Return the configuration with other keys of `distillation`."""
    assert config.distillation is not None
    return config.model_copy(update={"distillation": config.distillation.model_copy(update=keys)})


def objective_of(config: Config) -> Any:
    return build_objective(config, choose_precision("fp32", "cpu"))


def maker_of(config: Config) -> BatchMaker:
    data = DataFolder(config.data_path)
    return BatchMaker(data.store("train"), data.tokenizers(), 40, 256)


def a_batch(config: Config) -> PairBatch:
    return maker_of(config).make(np.arange(20, 40))


def a_model(config: Config, **settings: Any) -> TranslationModel:
    torch.manual_seed(1)
    tokenizers = DataFolder(config.data_path).tokenizers()
    sizes = [side.vocab_size for side in (tokenizers.source, tokenizers.target)]
    model = small_config(Path("none"), Path("none"), model=settings or SMALL_MODEL)
    built = build_model(model, *sizes)
    assert isinstance(built, TranslationModel)
    return built.eval()


def test_a_batch_has_the_teachers_likeliest_tokens_at_each_place(taught: Config) -> None:
    """End marks included; what `prepare` wrote in blocks is what the teacher says of a batch."""
    batch = a_batch(taught)
    teacher = token_teacher(taught)
    with torch.inference_mode():
        log_probs = torch.log_softmax(teacher.model.logits(batch), dim=2)
    assert batch.teacher_ids is not None
    assert batch.teacher_log_probs is not None
    assert batch.teacher_ids.shape == (*batch.target_out.shape, TOP_K)
    real = torch.arange(batch.target_out.shape[1]) < batch.target_lengths[:, None]
    known, _ = log_probs.topk(TOP_K, dim=2)
    stored = batch.teacher_log_probs.float()
    torch.testing.assert_close(stored[real], known[real], atol=2e-3, rtol=1e-3)
    of_stored = log_probs.gather(2, batch.teacher_ids)
    torch.testing.assert_close(of_stored[real], stored[real], atol=2e-3, rtol=1e-3)
    assert not bool(batch.teacher_ids[~real].any())


def dense_loss(
    model: TranslationModel, batch: PairBatch, weight: float, temperature: float
) -> Tensor:
    """Return the loss by whole distributions, place by place."""
    real = torch.arange(batch.target_out.shape[1]) < batch.target_lengths[:, None]
    logits = model.logits(batch)[real]
    vocab_size = logits.shape[1]
    assert batch.teacher_ids is not None
    assert batch.teacher_log_probs is not None
    known = batch.teacher_log_probs[real].float().exp()
    even = (1 - known.sum(dim=1, keepdim=True)) / (vocab_size - TOP_K)
    expected = even.repeat(1, vocab_size).scatter(1, batch.teacher_ids[real], known)
    expected = expected ** (1 / temperature)
    expected /= expected.sum(dim=1, keepdim=True)
    hard = F.cross_entropy(logits, batch.target_out[real], reduction="sum",
                           label_smoothing=SMOOTHING)  # fmt: skip
    soft = F.cross_entropy(logits / temperature, expected, reduction="sum")
    return (1 - weight) * hard + weight * temperature**2 * soft


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_loss_is_that_of_both_cross_entropies(taught: Config, temperature: float) -> None:
    config = changed(taught, temperature=temperature)
    model, batch = a_model(taught), a_batch(taught)
    sums = objective_of(config)(model, batch)
    wanted = dense_loss(model, batch, 0.5, temperature)
    torch.testing.assert_close(sums.loss, wanted, rtol=1e-5, atol=1e-3)
    parameters = list(model.parameters())
    found, right = (torch.autograd.grad(each, parameters) for each in (sums.loss, wanted))
    torch.testing.assert_close(found, right, rtol=1e-3, atol=1e-4)
    plain = PredictionObjective(config, choose_precision("fp32", "cpu"))(model, batch)
    torch.testing.assert_close(sums.nll, plain.nll)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_parts_of_a_batch_sum_to_it_and_padding_changes_nothing(
    taught: Config, temperature: float
) -> None:
    objective = objective_of(changed(taught, temperature=temperature))
    model, batch = a_model(taught), a_batch(taught)
    whole = objective(model, batch).loss
    parts = [objective(model, part).loss for part in batch.split(7)]
    torch.testing.assert_close(sum(parts), whole, rtol=1e-5, atol=1e-3)
    assert batch.teacher_ids is not None
    assert batch.teacher_log_probs is not None
    padded = replace(
        batch,
        target_in=F.pad(batch.target_in, (0, 3), value=3),
        target_out=F.pad(batch.target_out, (0, 3), value=3),
        teacher_ids=F.pad(batch.teacher_ids, (0, 0, 0, 3), value=5),
        teacher_log_probs=F.pad(batch.teacher_log_probs, (0, 0, 0, 3), value=-1.0),
    )
    torch.testing.assert_close(objective(model, padded).loss, whole, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_model_that_predicts_sources_too_learns_these_without_a_teacher(
    taught: Config, temperature: float
) -> None:
    model, batch = a_model(taught, **DECODER_ONLY), a_batch(taught)
    objective = objective_of(changed(taught, temperature=temperature))
    plain = PredictionObjective(taught, choose_precision("fp32", "cpu"))
    of_targets = objective(model, batch), plain(model, batch)
    model.train()
    with_sources = objective(model, batch), plain(model, batch)
    sources = [many.loss - few.loss for many, few in zip(with_sources, of_targets, strict=True)]
    assert float(sources[1].detach()) > 1
    torch.testing.assert_close(sources[0], sources[1], rtol=1e-4, atol=1e-2)
    torch.testing.assert_close(with_sources[0].nll, with_sources[1].nll)


def test_a_batch_without_a_teacher_has_the_plain_loss(taught: Config) -> None:
    bare = replace(a_batch(taught), teacher_ids=None, teacher_log_probs=None)
    model = a_model(taught)
    plain = PredictionObjective(taught, choose_precision("fp32", "cpu"))
    for found, wanted in zip(vars(objective_of(taught)(model, bare)).values(),
                             vars(plain(model, bare)).values(), strict=True):  # fmt: skip
        assert torch.equal(found, wanted)


def test_with_weight_0_nothing_changes(taught: Config) -> None:
    assert isinstance(objective_of(taught), TokenDistillation)
    assert isinstance(objective_of(changed(taught, weight=0.0)), PredictionObjective)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_a_student_resumes_bit_for_bit(taught: Config, tmp_path: Path, temperature: float) -> None:
    config = changed(taught, temperature=temperature)
    once, _ = open_run(config.model_copy(update={"run_dir": tmp_path / "once"}))
    learn(once, 20)
    twice = run_in_two_sittings(config.model_copy(update={"run_dir": tmp_path / "twice"}), 10, 20)
    assert_same_state(once, twice)


def test_threads_share_a_batch(taught: Config, tmp_path: Path) -> None:
    """Nothing of one call reaches another."""
    training = taught.training.model_copy(update={"batch_tokens": 1024})
    config = taught.model_copy(update={"training": training})
    losses = []
    for number in (1, 2):
        with torch_threads(number):
            setup, _ = open_run(config.model_copy(update={"run_dir": tmp_path / str(number)}))
            setup.state.model.apply(_without_dropout)
            losses.append([result.loss for result in learn(setup, 3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def _without_dropout(module: torch.nn.Module) -> None:
    if isinstance(getattr(module, "dropout", None), float):
        module.dropout = 0.0


def test_a_student_comes_nearer_to_its_teacher(taught: Config, tmp_path: Path) -> None:
    config = changed(taught, weight=0.99).model_copy(update={"run_dir": tmp_path / "run"})
    setup, _ = open_run(config)
    batch, teacher = a_batch(config), token_teacher(config).model
    student = setup.state.model
    assert isinstance(student, TranslationModel)
    real = torch.arange(batch.target_out.shape[1]) < batch.target_lengths[:, None]

    def distance() -> float:
        student.eval()
        with torch.inference_mode():
            both = [torch.log_softmax(model.logits(batch)[real], dim=1)
                    for model in (teacher, student)]  # fmt: skip
        return float((both[0].exp() * (both[0] - both[1])).sum(dim=1).mean())

    before = distance()
    learn(setup, 100)
    assert distance() < 0.5 * before

"""Distillation of a BERT: its triple loss, its batches, and a training that stops and resumes."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mtrain.commands.prepare import prepare
from mtrain.config import Config
from mtrain.data.batch import MaskedBatch
from mtrain.models.bert import Bert
from mtrain.nn.output import IGNORE_INDEX
from mtrain.runtime.precision import choose_precision
from mtrain.training.objectives import build_objective
from mtrain.training.objectives.masked_distillation import MaskedDistillation
from mtrain.training.objectives.prediction import PredictionObjective
from tests.in_process import (
    assert_same_state,
    learn,
    needs_bf16,
    open_run,
    open_setup,
    run_in_two_sittings,
    torch_threads,
    train_small_bert,
)


@pytest.fixture(scope="module")
def taught(small_task: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """The prepared configuration of a BERT with a teacher of twice its layers."""
    folder = tmp_path_factory.mktemp("taught-bert")
    train_small_bert(small_task, folder / "teacher")
    text = {"text": small_task / "train.words", "lang": "words"}
    tree: dict[str, Any] = {
        "run_dir": folder / "student",
        "data_dir": folder / "data",
        "device": "cpu",
        "data": {"train": [text], "valid": [{**text, "text": small_task / "valid.words"}],
                 "filters": {"max_tokens": 8}},
        "tokenizer": {"path": folder / "teacher" / "tokenizer" / "shared.model"},
        "model": {"type": "bert", "encoder_layers": 1, "d_model": 24, "num_heads": 2,
                  "ffn_dim": 32, "max_positions": 16},
        "training": {"objective": "masked_lm", "precision": "fp32", "batch_tokens": 512,
                     "max_updates": 20, "warmup_updates": 1, "valid_every": 20},
        "distillation": {"teachers": [folder / "teacher"], "weight": 0.6, "hidden_weight": 0.3,
                         "temperature": 2.0},
    }  # fmt: skip
    config = Config.model_validate(tree)
    prepare(config)
    return config


def changed(config: Config, **keys: Any) -> Config:
    """Return the configuration with other keys of `distillation`."""
    assert config.distillation is not None
    return config.model_copy(update={"distillation": config.distillation.model_copy(update=keys)})


def parts_of(config: Config) -> tuple[Bert, Bert, MaskedBatch]:
    """Return the student, its teacher and a batch."""
    setup = open_setup(config)
    objective = setup.updater._step.gradients._mean_loss._objective
    student = setup.state.model
    assert isinstance(objective, MaskedDistillation)
    assert isinstance(student, Bert)
    batch = next(setup.updates(0, 0, 0)).batches[0]
    assert isinstance(batch, MaskedBatch)
    return student.eval(), objective._teacher, batch


def triple_loss(config: Config, student: Bert, teacher: Bert, batch: MaskedBatch) -> Tensor:
    """Return the loss by whole distributions."""
    given = config.distillation
    assert given is not None
    with torch.no_grad():
        taught = teacher.hidden_states(batch)
        expected = teacher.output(teacher.predictions(taught, batch).features)
    states = student.hidden_states(batch)
    predictions = student.predictions(states, batch)
    real = predictions.targets != IGNORE_INDEX
    logits, temperature = student.output(predictions.features)[real], given.temperature
    hard = F.cross_entropy(logits, predictions.targets[real], reduction="sum",
                           label_smoothing=config.training.label_smoothing)  # fmt: skip
    soft = F.cross_entropy(logits / temperature, torch.softmax(expected[real] / temperature, 1),
                           reduction="sum")  # fmt: skip
    is_text = batch.sentences >= 0
    cosines = F.cosine_similarity(states[is_text], taught[is_text], dim=1)
    hidden = config.training.masked_share * (1 - cosines).sum()
    return (
        (1 - given.weight) * hard
        + given.weight * temperature**2 * soft
        + given.hidden_weight * hidden
    )


@pytest.mark.parametrize(
    "keys", [{}, {"temperature": 1.0}, {"weight": 0.0}, {"hidden_weight": 0.0}]
)
def test_the_loss_has_three_parts(taught: Config, keys: dict[str, float]) -> None:
    config = changed(taught, **keys)
    student, teacher, batch = parts_of(config)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not teacher.training
    precision = choose_precision("fp32", "cpu")
    sums = build_objective(config, precision, teacher)(student, batch)
    wanted = triple_loss(config, student, teacher, batch)
    torch.testing.assert_close(sums.loss, wanted, rtol=1e-5, atol=1e-3)
    parameters = list(student.parameters())
    found, right = (torch.autograd.grad(each, parameters, allow_unused=True)
                    for each in (sums.loss, wanted))  # fmt: skip
    torch.testing.assert_close(found, right, rtol=1e-3, atol=1e-4)
    plain = PredictionObjective(config, precision)(student, batch)
    torch.testing.assert_close(sums.nll, plain.nll)


def test_parts_of_a_batch_sum_to_it(taught: Config) -> None:
    student, teacher, batch = parts_of(taught)
    objective = build_objective(taught, choose_precision("fp32", "cpu"), teacher)
    parts = batch.split(3)
    assert len(parts) > 1
    whole = objective(student, batch).loss
    torch.testing.assert_close(
        sum(objective(student, part).loss for part in parts), whole, rtol=1e-5, atol=1e-3
    )


@needs_bf16
def test_in_bf16_it_is_nearly_the_same(taught: Config) -> None:
    student, teacher, batch = parts_of(taught)
    losses = [
        build_objective(taught, choose_precision(name, "cpu"), teacher)(student, batch).loss.item()
        for name in ("fp32", "bf16")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_without_a_teacher_nothing_changes(taught: Config) -> None:
    bare = taught.model_copy(update={"distillation": None})
    setup = open_setup(bare)
    assert isinstance(setup.updater._step.gradients._mean_loss._objective, PredictionObjective)


@pytest.mark.parametrize(("num_threads", "last"), [(1, 20), (2, 4)])
def test_a_student_resumes_bit_for_bit(
    taught: Config, tmp_path: Path, num_threads: int, last: int
) -> None:
    with torch_threads(num_threads):
        once, _ = open_run(taught.model_copy(update={"run_dir": tmp_path / "once"}))
        learn(once, last)
        config = taught.model_copy(update={"run_dir": tmp_path / "twice"})
        twice = run_in_two_sittings(config, last // 2, last)
    assert_same_state(once, twice)


def test_a_student_comes_nearer_to_its_teacher(taught: Config, tmp_path: Path) -> None:
    config = changed(taught, weight=0.9, hidden_weight=1.0)
    setup, _ = open_run(config.model_copy(update={"run_dir": tmp_path / "run"}))
    student, (_, teacher, batch) = setup.state.model, parts_of(config)
    assert isinstance(student, Bert)

    def distance() -> float:
        student.eval()
        with torch.inference_mode():
            both = [model.hidden_states(batch)[batch.sentences >= 0]
                    for model in (student, teacher)]  # fmt: skip
        return float(1 - F.cosine_similarity(*both, dim=1).mean())

    before = distance()
    learn(setup, 40)
    assert distance() < 0.7 * before

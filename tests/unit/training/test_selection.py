"""Parameters that do not learn, or learn at another rate, by the patterns of their names."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mtrain.errors import UserError
from mtrain.training.optimizer import build_optimizers, optimizer_tensors, set_learning_rate
from mtrain.training.steps import cpu_threads
from tests.contract.models import MODELS, TARGET_VOCAB, new_model
from tests.in_process import (
    Learner,
    learn,
    make_batch,
    make_learner,
    open_run,
    open_setup,
    run_in_two_sittings,
    small_config,
    torch_threads,
)

TIED = "transformer-pre-sinusoidal-all"
PAIRS = [(5, 7), (9, 2), (2, 6), (7, 9), (3, 1), (4, 4), (8, 8), (6, 3)]
OPTIMIZERS = ["adamw", "muon"]


def learner(name: str = TIED, **training: Any) -> Learner:
    """Return a learner of a model that always has the same weights."""
    torch.manual_seed(1)
    model = new_model(name, tie_embeddings="all", dropout=0.0, attention_dropout=0.0)
    return make_learner(model, {"warmup_updates": 0, **training})


def update(learner: Learner, count: int = 1, first: int = 0) -> Learner:
    batch = make_batch(PAIRS, TARGET_VOCAB, TARGET_VOCAB)
    for number in range(first, first + count):
        assert learner.update(number, [batch], 1e-2).is_finite
    return learner


def weights(learner: Learner) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in learner.model.named_parameters()}


def is_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, bool]:
    assert one.keys() == other.keys()
    return {name: torch.equal(tensor, other[name]) for name, tensor in one.items()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("num_threads", [1, 2])
def test_frozen_parameters_keep_their_bits_and_have_neither_gradient_nor_state(
    optimizer: str, num_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_threads, "LEAST_TOKENS", 8)
    patterns = ["encoder*", "decoder.1.*bias"]
    frozen = learner(optimizer=optimizer, freeze=patterns, clip_norm=0.0)
    before = weights(frozen)
    with torch_threads(num_threads):
        update(frozen, 3)
    states = {key.split("/")[0] for key in optimizer_tensors(frozen.model, frozen.state.optimizers)}
    same = is_same(weights(frozen), before)
    assert 5 < sum(same.values()) < len(same) - 5
    for name, parameter in frozen.model.named_parameters():
        is_frozen = any(fnmatchcase(name, pattern) for pattern in patterns)
        assert same[name] is is_frozen, name
        assert (parameter.grad is None) is is_frozen, name
        assert (name not in states) is is_frozen, name
    assert len(frozen.state.parameters) == len(same) - sum(same.values())


def test_what_is_frozen_changes_no_other_gradient_and_is_not_clipped() -> None:
    free, frozen = (learner(clip_norm=0.0, freeze=names) for names in ([], ["decoder.*", "*bias"]))
    batch = make_batch(PAIRS, TARGET_VOCAB, TARGET_VOCAB)
    results = [each.update(0, [batch], 1e-2) for each in (free, frozen)]
    gradients = [{n: p.grad for n, p in each.model.named_parameters() if p.grad is not None}
                 for each in (free, frozen)]  # fmt: skip
    assert 0 < len(gradients[1]) < len(gradients[0])
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradient, gradients[0][name])
    norm = torch.stack([gradient.norm() for gradient in gradients[1].values()]).norm()
    assert results[0].loss == results[1].loss
    assert results[1].gradient_norm == pytest.approx(norm.item(), rel=1e-5)
    assert results[1].gradient_norm < results[0].gradient_norm


@pytest.mark.parametrize(
    "name", ["source_embedding.weight", "target_embedding.weight", "output.weight"]
)
def test_each_name_of_a_tied_tensor_selects_it(name: str) -> None:
    frozen = learner(freeze=[name])
    before = frozen.model.output.weight.detach().clone()
    update(frozen)
    assert torch.equal(frozen.model.output.weight, before)
    slow = learner(learning_rate_scale={name: 0.0, "*": 1.0})
    update(slow)
    assert torch.equal(slow.model.output.weight, before)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_learns_with_any_of_its_parts_frozen(name: str) -> None:
    """Also with muon where no matrix, or only matrices, are left to it."""
    torch.manual_seed(1)
    names = [key for key, _ in new_model(name).named_parameters()]
    parts = {f"{key.split('.')[0]}*" for key in names} | {"*.weight", "*bias*"}
    for part in sorted(parts):
        frozen = learner(name, freeze=[part], optimizer="muon")
        before = weights(frozen)
        same = is_same(weights(update(frozen)), before)
        assert {key for key in same if fnmatchcase(key, part)} <= {
            key for key, is_equal in same.items() if is_equal
        }
        assert not all(same.values())


def test_muon_works_alone_where_only_matrices_learn() -> None:
    rest = ["*embedding*", "*bias", "*norm*", "*residuals*"]
    only = learner(freeze=rest, optimizer="muon")
    assert len(only.state.optimizers) == 1
    before = weights(only)
    assert not all(is_same(weights(update(only)), before).values())


@pytest.mark.parametrize(
    ("training", "error"),
    [
        ({"freeze": ["encoder*", "dekoder.*"]},
         "training.freeze: dekoder.* matches no parameter of the model\nthere are "),
        ({"learning_rate_scale": {"encoder": 0.1}},
         "training.learning_rate_scale: encoder matches no parameter of the model\nthere are "),
        ({"freeze": ["enc*", "*"]}, "training.freeze: enc*, *: no parameter is left to learn\n"),
    ],
)  # fmt: skip
def test_a_pattern_that_cannot_be_meant_is_refused_before_training(
    training: dict[str, Any], error: str, small_task: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        open_setup(small_config(small_task, tmp_path / "run", training))
    assert str(caught.value).startswith(error)
    if "no parameter of" in error:
        assert "encoder.*" in caught.value.hint
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_scale_of_zero_is_as_good_as_frozen(optimizer: str) -> None:
    common = {"optimizer": optimizer, "clip_norm": 0.0, "weight_decay": 0.1}
    frozen = update(learner(freeze=["encoder*"], **common), 3)
    slow = update(learner(learning_rate_scale={"encoder*": 0.0}, **common), 3)
    for name, tensor in weights(frozen).items():
        torch.testing.assert_close(tensor, weights(slow)[name], msg=name)
        if name.startswith("encoder"):
            assert torch.equal(tensor, weights(slow)[name]), name


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_scale_shortens_the_step_of_what_it_matches_first(optimizer: str) -> None:
    scales = {"encoder.0.*": 0.5, "encoder*": 0.25, "*": 1.0}
    common = {"optimizer": optimizer, "clip_norm": 0.0}
    start = weights(learner())
    whole = weights(update(learner(**common)))
    scaled = weights(update(learner(learning_rate_scale=scales, **common)))
    for name, tensor in scaled.items():
        scale = 0.5 if name.startswith("encoder.0.") else 0.25 if name.startswith("enc") else 1.0
        expected = scale * (whole[name] - start[name])
        torch.testing.assert_close(tensor - start[name], expected, atol=1e-6, rtol=1e-3, msg=name)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_what_is_unfrozen_later_learns_from_that_update_on(optimizer: str) -> None:
    learning = learner(optimizer=optimizer, unfreeze={"encoder*": 2})
    start = weights(learning)
    still = weights(update(learning, 2))
    then = weights(update(learning, 1, first=2))
    for name, tensor in start.items():
        is_late = name.startswith("encoder")
        assert torch.equal(tensor, still[name]) == is_late, name
        assert not torch.equal(still[name], then[name]), name


def test_without_scales_there_is_a_group_for_matrices_and_one_for_the_rest() -> None:
    config = small_config(Path("no-task"), Path("no-run")).training
    model = new_model(TIED)
    (adamw,) = build_optimizers(model, config, torch.float32)
    parameters = list(model.parameters())
    assert [group["params"] for group in adamw.param_groups] == [
        [p for p in parameters if p.dim() > 1],
        [p for p in parameters if p.dim() <= 1],
    ]
    set_learning_rate([adamw], 0.1234567, 0)
    assert [group["lr"] for group in adamw.param_groups] == [0.1234567] * 2


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_run_with_frozen_parts_and_scales_resumes_bit_for_bit(
    optimizer: str, small_task: Path, tmp_path: Path
) -> None:
    training = {
        "optimizer": optimizer,
        "freeze": ["encoder*", "*norm*"],
        "learning_rate_scale": {"*embedding*": 0.3},
        "ema_decay": 0.9,
    }
    config = small_config(small_task, tmp_path / "run", training)
    whole, _ = open_run(config)
    learn(whole, 12)
    resumed = run_in_two_sittings(config, 5, 12)
    assert all(is_same(whole.state.weights, resumed.state.weights).values())
    assert all(is_same(whole.state.tensors(), resumed.state.tensors()).values())
    state = whole.state.tensors()
    assert not [key for key in state if key.startswith("encoder")]
    assert [key for key in state if key.startswith("own/encoder")]

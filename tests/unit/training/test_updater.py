"""One update: the gradient that it should be, and nothing changed where it cannot be had."""

import math
from collections.abc import Callable
from itertools import cycle
from typing import Any

import pytest
import torch
from torch import Tensor

from mtrain.config.model import TransformerConfig
from mtrain.data.batch import PairBatch
from mtrain.errors import UserError
from mtrain.models.base import NO_RECORD, AttentionRecord
from mtrain.models.transformer import Transformer
from mtrain.training.optimizer import WeightAverage, optimizer_tensors, restore_optimizers
from tests.in_process import Learner, make_batch, make_learner
from tests.unit.decoding.tiny import make_rows

VOCAB = 30
PAIRS = [(5, 7), (9, 2), (2, 6), (7, 9), (3, 1), (4, 4), (8, 8), (6, 3), (5, 5), (7, 2)]


class Troubled(Transformer):
    """A model that something happens to before it computes."""

    trouble: Callable[[PairBatch], Tensor | None]

    def features(self, batch: PairBatch, record: AttentionRecord = NO_RECORD) -> Tensor:
        factor = self.trouble(batch)
        features = super().features(batch, record)
        return features if factor is None else features * factor


def troubled_updater(
    trouble: Callable[[PairBatch], Tensor | None] = lambda batch: None,
    dropout: float = 0.0,
    **training: Any,
) -> Learner:
    """Return an updater of a new model, always with the same weights."""
    torch.manual_seed(1)
    config = TransformerConfig(
        encoder_layers=1,
        decoder_layers=1,
        d_model=16,
        num_heads=2,
        ffn_dim=24,
        dropout=dropout,
        max_positions=20,
    )
    model = Troubled(config, VOCAB, VOCAB)
    model.trouble = trouble
    return make_learner(model, {"warmup_updates": 0, **training})


def pairs(rows: list[int] | None = None) -> PairBatch:
    """Return some of the same ten pairs, cut to their own longest."""
    batch = make_batch(PAIRS, VOCAB, VOCAB)
    return make_rows(batch, rows if rows is not None else list(range(len(PAIRS)))).split(1)[0]


def gradients(updater: Learner) -> dict[str, Tensor]:
    found = {}
    for name, parameter in updater.model.named_parameters():
        assert parameter.grad is not None
        found[name] = parameter.grad.clone()
    return found


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], atol=1e-6, rtol=1e-4, msg=name)


def everything(updater: Learner) -> dict[str, Tensor]:
    """Return a copy of all that an update may change: weights, moments, average."""
    model = updater.model
    tensors = {f"weight/{name}": p.detach() for name, p in model.named_parameters()}
    tensors |= optimizer_tensors(model, updater.state.optimizers)
    tensors |= {f"average/{name}": value for name, value in updater.state.weights.items()}
    return {name: tensor.clone() for name, tensor in tensors.items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


# -- the gradient ----------------------------------------------------------------------------------


def test_the_gradient_is_that_of_the_mean_smoothed_loss_over_real_tokens() -> None:
    updater = troubled_updater(clip_norm=0.0, label_smoothing=0.1)
    result = updater.update(0, [pairs()], 1e-3)
    found = gradients(updater)

    reference = troubled_updater().model
    losses = []
    for row in range(len(PAIRS)):
        batch = pairs([row])
        losses.append(
            torch.nn.functional.cross_entropy(
                reference.logits(batch)[0],
                batch.target_out[0],
                label_smoothing=0.1,
                reduction="sum",
            )
        )
    num_tokens = sum(target for _, target in PAIRS)
    loss = torch.stack(losses).sum() / num_tokens
    loss.backward()
    assert result.num_tokens == num_tokens
    assert result.loss == pytest.approx(loss.item(), abs=1e-5)
    expected = {name: p.grad for name, p in reference.named_parameters() if p.grad is not None}
    assert_close(found, expected)
    norm = torch.stack([gradient.norm() for gradient in expected.values()]).norm()
    assert result.gradient_norm == pytest.approx(norm.item(), rel=1e-4)


def test_unequal_batches_accumulate_to_the_gradient_of_one_big_batch() -> None:
    whole = troubled_updater(clip_norm=0.0)
    one = whole.update(0, [pairs()], 1e-3)
    shared = troubled_updater(clip_norm=0.0)
    two = shared.update(0, [pairs([1]), pairs([0, 3, 6, 2, 4]), pairs([5, 7, 8, 9])], 1e-3)
    assert two.loss == pytest.approx(one.loss, rel=1e-5)
    assert two.num_tokens == one.num_tokens
    assert_close(gradients(shared), gradients(whole))


@pytest.mark.parametrize("limit", [0.0, 0.05, 1000.0])
def test_clipping_limits_the_norm_and_reports_it_before(limit: float) -> None:
    updater = troubled_updater(clip_norm=limit)
    result = updater.update(0, [pairs()], 1e-3)
    free = troubled_updater(clip_norm=0.0)
    assert result.gradient_norm == pytest.approx(free.update(0, [pairs()], 1e-3).gradient_norm)
    scale = 0.05 / result.gradient_norm if limit == 0.05 else 1.0
    assert result.gradient_norm > 0.05
    assert_close(gradients(updater), {name: g * scale for name, g in gradients(free).items()})


def test_dropout_depends_on_the_update_and_the_batch_and_on_nothing_before() -> None:
    first = troubled_updater(dropout=0.3)
    torch.manual_seed(77)
    torch.rand(5)
    second = troubled_updater(dropout=0.3)
    torch.rand(11)
    batches = [pairs([0, 1]), pairs([0, 1])]
    assert first.update(5, batches, 0.0).loss == second.update(5, batches, 0.0).loss
    assert_same(gradients(first), gradients(second))
    assert first.update(6, batches, 0.0).loss != second.update(5, batches, 0.0).loss
    twice_the_first = first.update(5, [batches[0]], 0.0).loss
    assert first.update(5, batches, 0.0).loss != pytest.approx(twice_the_first, abs=1e-6)


def test_only_matrices_decay() -> None:
    updater = troubled_updater(weight_decay=0.5)
    groups = updater.state.optimizers[-1].param_groups
    for name, parameter in updater.model.named_parameters():
        decay = next(group["weight_decay"] for group in groups
                     if any(parameter is member for member in group["params"]))  # fmt: skip
        assert decay == (0.5 if parameter.dim() > 1 else 0.0), name


# -- out of memory ---------------------------------------------------------------------------------


class SmallMemory:
    """Holds so many pairs at a time; notes what it was asked to hold."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.asked: list[int] = []

    def __call__(self, batch: PairBatch) -> None:
        self.asked.append(len(batch.source))
        if len(batch.source) > self.room:
            raise next(SAID)


SAID = cycle(
    [
        MemoryError(),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        torch.OutOfMemoryError("no room"),
        RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    ]
)


@pytest.mark.parametrize("room", [1, 2, 3, 5, 9])
def test_out_of_memory_gives_the_same_gradient_in_smaller_parts(
    room: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second of three batches does not fit, when the first has left its gradient already."""
    batches = [pairs([4]), pairs(), pairs([1, 2])]
    whole = troubled_updater(clip_norm=0.0)
    one = whole.update(0, batches, 1e-3)
    memory = SmallMemory(room)
    tight = troubled_updater(memory, clip_norm=0.0)
    two = tight.update(0, batches, 1e-3)
    assert memory.asked[:2] == [1, 10]
    assert two.loss == pytest.approx(one.loss, rel=1e-5)
    assert two.num_tokens == one.num_tokens
    assert_close(gradients(tight), gradients(whole))
    assert "out of memory" in capsys.readouterr().err

    memory.asked.clear()  # from here on it is known how much fits
    tight.update(1, batches, 1e-3)
    assert max(memory.asked) <= room
    assert capsys.readouterr().err == ""


def test_out_of_memory_on_a_single_pair_is_the_users_to_mend() -> None:
    memory = SmallMemory(0)
    updater = troubled_updater(memory)
    before = everything(updater)
    with pytest.raises(UserError, match="single sentence pair") as error:
        updater.update(0, [pairs(), pairs([1])], 1e-3)
    assert "max_tokens" in error.value.hint
    assert memory.asked == [10, 5, 3, 2, 1]
    assert_same(everything(updater), before)


# -- what is not finite ----------------------------------------------------------------------------


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_changes_nothing(spoilt: float) -> None:
    factors = [None, torch.tensor(spoilt), None]  # of the three updates
    updater = troubled_updater(lambda batch: factors.pop(0), ema_decay=0.9)
    updater.update(0, [pairs()], 1e-3)
    before = everything(updater)
    result = updater.update(1, [pairs()], 1e-3)
    assert not result.is_finite
    assert_same(everything(updater), before)
    assert updater.update(2, [pairs()], 1e-3).is_finite
    after = everything(updater)
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    assert not torch.equal(after["average/output.weight"], before["average/output.weight"])


@pytest.mark.parametrize("spoilt", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_changes_nothing(spoilt: float) -> None:
    """One element of one bias; the loss is as it should be."""
    updater = troubled_updater(ema_decay=0.9)
    updater.update(0, [pairs()], 1e-3)
    before = everything(updater)
    bias = dict(updater.model.named_parameters())["decoder.0.feed_forward.inner.bias"]
    hook = bias.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor([3]), spoilt))
    result = updater.update(1, [pairs()], 1e-3)
    assert math.isfinite(result.loss)
    assert not result.is_finite
    assert_same(everything(updater), before)
    hook.remove()
    assert updater.update(2, [pairs()], 1e-3).is_finite


def test_an_update_ended_from_outside_changes_nothing() -> None:
    class Stopped(Exception):
        pass

    calls = []

    def stop_at_the_second_batch() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise Stopped

    updater, undisturbed = troubled_updater(dropout=0.1), troubled_updater(dropout=0.1)
    batches = [pairs([0, 1, 2]), pairs([3, 4]), pairs([5])]
    before = everything(updater)
    with pytest.raises(Stopped):
        updater.update(0, batches, 1e-3, stop_at_the_second_batch)
    assert_same(everything(updater), before)
    assert updater.update(0, batches, 1e-3) == undisturbed.update(0, batches, 1e-3)
    assert_same(everything(updater), everything(undisturbed))


# -- average and restoring -------------------------------------------------------------------------


def test_the_average_follows_the_weights_early_fast_then_slowly() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    average = WeightAverage(model, decay=0.5)
    torch.nn.init.ones_(model.weight)
    expected = 0.0
    for number in range(20):
        average.update(number)
        decay = min(0.5, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay)
        assert average.weights["weight"].item() == pytest.approx(expected, abs=1e-6)
    assert model.weight.item() == 1.0


def test_without_decay_the_weights_to_translate_with_are_the_models_own() -> None:
    learner = troubled_updater(ema_decay=0.0)
    learner.update(0, [pairs()], 1e-2)
    own = dict(learner.model.named_parameters())
    assert learner.state.average.weights == {}
    assert {name: weight.data_ptr() for name, weight in learner.state.weights.items()} == {
        name: weight.data_ptr() for name, weight in own.items()
    }


def test_a_restored_average_goes_on_as_the_saved_one() -> None:
    model = torch.nn.Linear(2, 2)
    average = WeightAverage(model, decay=0.9)
    average.update(0)
    saved = {name: tensor.clone() for name, tensor in average.weights.items()}
    torch.nn.init.ones_(model.weight)
    other = WeightAverage(model, decay=0.9)
    other.restore(saved)
    for either in (average, other):
        either.update(1)
    assert_same(average.weights, other.weights)


def test_a_restored_optimizer_goes_on_as_the_saved_one() -> None:
    updater, other = troubled_updater(), troubled_updater()
    for number in range(3):
        updater.update(number, [pairs()], 1e-2)
    tensors = optimizer_tensors(updater.model, updater.state.optimizers)
    assert {name.rsplit("/")[-1] for name in tensors} == {"step", "exp_avg", "exp_avg_sq"}
    other.model.load_state_dict(updater.model.state_dict())
    restore_optimizers(other.model, other.state.optimizers, tensors)  # copies: both go on apart
    for either in (updater, other):
        either.update(3, [pairs()], 1e-2)
    assert_same(everything(updater), everything(other))


@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
@pytest.mark.parametrize("number", [0, 1])
def test_scaled_losses_step_all_optimisers_or_none(number: int, clip_norm: float) -> None:
    """A scaler by itself skips the optimiser whose gradients overflow, and steps the other."""
    learner = troubled_updater(optimizer="muon", clip_norm=clip_norm)
    state, step = learner.state, learner.updater._step
    state.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    assert len(state.optimizers) == 2
    before = [parameter.detach().clone() for parameter in state.parameters]

    def apply(gradient: float) -> list[bool]:
        for parameter in state.parameters:
            parameter.grad = torch.ones_like(parameter)
        state.optimizers[number].param_groups[0]["params"][0].grad.fill_(gradient)
        step.apply(state.scaler.scale(torch.ones(())))
        return [bool((now != then).any())
                for now, then in zip(state.parameters, before, strict=True)]  # fmt: skip

    assert not any(apply(math.inf))
    assert state.scaler.get_scale() == 2
    assert all(apply(1.0))

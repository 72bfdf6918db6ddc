"""A gradient that threads share is that of the whole, and always the same."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from mtrain.data.batch import PairBatch
from mtrain.distributed.group import ProcessGroup
from mtrain.errors import UserError
from mtrain.models.base import Model
from mtrain.runtime.precision import choose_precision
from mtrain.training.learner import build_learner
from mtrain.training.objectives import LossSums, Objective
from mtrain.training.objectives.prediction import PredictionObjective
from mtrain.training.steps import cpu_threads
from tests.in_process import (
    assert_same_state,
    learn,
    needs_bf16,
    number_in_a_new_thread,
    open_setup,
    run_in_two_sittings,
    small_config,
    torch_threads,
)
from tests.unit.training.test_updater import (
    PAIRS,
    assert_close,
    assert_same,
    everything,
    gradients,
    pairs,
    troubled_updater,
)


@pytest.fixture(autouse=True)
def _few_tokens_are_worth_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_threads, "LEAST_TOKENS", 4)


@pytest.mark.parametrize("num_threads", [2, 3, 4, 8])
def test_threads_share_a_gradient_and_a_loss(num_threads: int) -> None:
    batches = [pairs([1]), pairs(), pairs([5, 7, 8, 9])]
    with torch_threads(1):
        alone = troubled_updater(clip_norm=0.0)
        one = alone.update(0, batches, 1e-3)
    sizes: list[int] = []
    with torch_threads(num_threads):
        shared = troubled_updater(lambda batch: sizes.append(len(batch.source)), clip_norm=0.0)
        two = shared.update(0, batches, 1e-3)
        assert number_in_a_new_thread() == torch.get_num_threads() == num_threads
    assert len(batches) < len(sizes) <= 1 + 4 + 4  # they did share, at most four the same batch
    assert sum(sizes) == len(PAIRS) + 5
    assert two.loss == pytest.approx(one.loss, rel=1e-5)
    assert two.num_tokens == one.num_tokens
    assert_close(gradients(shared), gradients(alone))


@pytest.mark.parametrize("num_threads", [2, 4])
def test_the_same_updates_are_the_same_to_the_last_bit(num_threads: int) -> None:
    def train() -> dict[str, Tensor]:
        with torch_threads(num_threads):
            updater = troubled_updater(dropout=0.3)
            for number in range(5):
                updater.update(number, [pairs(), pairs([0, 3, 6, 2, 4])], 1e-2)
        return everything(updater)

    first = train()
    torch.manual_seed(77)
    for _ in range(3):
        assert_same(train(), first)


def test_each_part_drops_something_else() -> None:
    losses: list[float] = []

    class Noting(PredictionObjective):
        def __call__(self, model: Model, batch: PairBatch, *others: Any) -> LossSums:
            sums = super().__call__(model, batch, *others)
            losses.append(sums.loss.item())
            return sums

    with torch_threads(2):
        learner = troubled_updater(dropout=0.5)
        config = small_config(Path("no-task"), Path("no-run"))
        precision = choose_precision("fp32", "cpu")
        objective = Noting(config, precision)
        model, group = learner.model, ProcessGroup()
        _, step = build_learner(model, objective, config.training, precision, group, False)
        learner.model.train()
        twice = pairs([0, 0])
        step.accumulate(twice, twice.num_target_tokens, 1)
    assert len(losses) == 2
    assert losses[0] != losses[1]


class Plain(torch.nn.Module):
    """A model of bare parameters, for an objective that knows what to do with them."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.vectors = torch.nn.ParameterList(torch.ones(2) for _ in range(count))


def plain_step(loss_of: Callable[[PairBatch], Tensor], count: int) -> Any:
    """Return a step of so many vectors with a given loss, and the vectors."""
    config = small_config(Path("no-task"), Path("no-run"))
    precision = choose_precision("fp32", "cpu")
    model: Any = Plain(count)

    class Given(Objective):
        def __call__(self, model: Model, batch: PairBatch, *_: Any) -> LossSums:
            return LossSums(loss_of(batch), torch.zeros(()))

    group = ProcessGroup()
    _, step = build_learner(model, Given(), config.training, precision, group, False)
    return step, model.vectors


def test_a_parameter_that_only_a_later_part_uses_gets_its_gradient_and_an_unused_one_none() -> None:
    last = int(pairs().source[-1, 0])

    def loss_of(part: PairBatch) -> Tensor:
        used, later, _ = vectors
        loss = used.sum() * len(part.source)
        return loss + 3 * later.sum() if int(part.source[-1, 0]) == last else loss

    with torch_threads(2):
        step, vectors = plain_step(loss_of, 3)
        total = step.accumulate(pairs(), 1, 1)
    assert total == 2 * len(PAIRS) + 6
    used, later, unused = (vector.grad for vector in vectors)
    assert used.tolist() == [len(PAIRS)] * 2
    assert later.tolist() == [3, 3]
    assert unused is None


def test_parameters_with_the_same_gradient_do_not_share_it() -> None:
    with torch_threads(3):
        step, vectors = plain_step(lambda part: sum(vectors).sum() * len(part.source), 2)
        step.accumulate(pairs(), 1, 1)
    one, other = (vector.grad for vector in vectors)
    assert one.tolist() == other.tolist() == [len(PAIRS)] * 2
    one.zero_()
    assert other.tolist() == [len(PAIRS)] * 2


def test_where_memory_is_scarce_parts_come_one_after_the_other() -> None:
    """With no gradient but the parameters' own, which several at once would need."""
    before = threading.active_count()

    def trouble(batch: PairBatch) -> None:
        sizes.append(len(batch.source))
        threads.append(threading.active_count() - before)
        if len(batch.source) > 2:
            raise RuntimeError("[enforce] DefaultCPUAllocator: can't allocate memory")

    sizes: list[int] = []
    threads: list[int] = []
    with torch_threads(3):
        whole = troubled_updater(clip_norm=0.0)
        one = whole.update(0, [pairs()], 1e-3)
        tight = troubled_updater(trouble, clip_norm=0.0)
        two = tight.update(0, [pairs()], 1e-3)
        assert two.loss == pytest.approx(one.loss, rel=1e-5)
        assert_close(gradients(tight), gradients(whole))
        sizes.clear()
        threads.clear()
        with patch.object(torch.autograd, "grad", side_effect=AssertionError):
            tight.update(1, [pairs()], 1e-3)
        assert sizes == [2] * 5
        assert threads == [0] * 5
        with pytest.raises(UserError, match="single sentence pair"):
            troubled_updater(lambda batch: trouble(pairs())).update(0, [pairs()], 1e-3)
        assert torch.get_num_threads() == 3


@needs_bf16
def test_weights_that_a_recurrence_uses_often_are_cast_alike_by_all_threads(
    small_task: Path, tmp_path: Path
) -> None:
    """A cache of casts that threads share would sum gradients in an order that timing decides."""
    with choose_precision("bf16", "cpu").autocast():
        assert not torch.is_autocast_cache_enabled()
    model = {"type": "rnn", "cell": "gru", "embedding_dim": 16, "hidden_dim": 32}
    training = {"precision": "bf16", "batch_tokens": 512}
    digests = set()
    for attempt in range(5):
        config = small_config(small_task, tmp_path / str(attempt), training, model)
        setup = open_setup(config)
        with torch_threads(2):
            learn(setup, 4)
        weights = [weight.flatten() for weight in setup.state.weights.values()]
        digests.add(torch.cat(weights).numpy().tobytes())
    assert len(digests) == 1


def test_threads_resume_in_the_same_bits(small_task: Path, tmp_path: Path) -> None:
    config = small_config(small_task, tmp_path / "run", {"accumulate": 2})
    with torch_threads(2):
        whole = open_setup(config)
        learn(whole, 6)
        assert_same_state(whole, run_in_two_sittings(config, 3, 6))

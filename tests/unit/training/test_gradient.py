"""A gradient that threads share is that of the whole, and always the same."""

import threading
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from mtrain.data.batches import Batch
from mtrain.errors import UserError
from mtrain.training import gradient as gradient_module
from mtrain.training.gradient import add_gradient
from tests.in_process import number_in_a_new_thread, torch_threads
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
    monkeypatch.setattr(gradient_module, "LEAST_TOKENS", 4)


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
    twice = pairs([0, 0])
    with torch_threads(2):
        losses: list[float] = []
        updater = troubled_updater(dropout=0.5)
        updater.model.train()

        def loss_of(part: Batch) -> Tensor:
            loss = updater.model(part).square().sum()
            losses.append(loss.item())
            return loss

        add_gradient(loss_of, twice, 1, list(updater.model.parameters()), 1)
    assert len(losses) == 2
    assert losses[0] != losses[1]


def test_a_parameter_that_only_a_later_part_uses_gets_its_gradient_and_an_unused_one_none() -> None:
    used, later, unused = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
    last = int(pairs().source[-1, 0])

    def loss_of(part: Batch) -> Tensor:
        loss = used.sum() * len(part.source)
        return loss + 3 * later.sum() if int(part.source[-1, 0]) == last else loss

    with torch_threads(2):
        total = add_gradient(loss_of, pairs(), 1, [used, later, unused], 1)
    assert total == 2 * len(PAIRS) + 6
    assert used.grad is not None
    assert used.grad.tolist() == [len(PAIRS)] * 2
    assert later.grad is not None
    assert later.grad.tolist() == [3, 3]
    assert unused.grad is None


def test_parameters_with_the_same_gradient_do_not_share_it() -> None:
    one, other = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    with torch_threads(3):
        add_gradient(lambda part: (one + other).sum() * len(part.source), pairs(), 1,
                     [one, other], 1)  # fmt: skip
    assert one.grad is not None
    assert other.grad is not None
    assert one.grad.tolist() == other.grad.tolist() == [len(PAIRS)] * 2
    one.grad.zero_()
    assert other.grad.tolist() == [len(PAIRS)] * 2


def test_where_memory_is_scarce_parts_come_one_after_the_other() -> None:
    """With no gradient but the parameters' own, which several at once would need."""
    before = threading.active_count()

    def trouble(batch: Batch) -> None:
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

"""The learning rate at the places where it turns, and the time budget."""

import math
from typing import Any

import pytest

from mtrain.config.training import TrainingConfig
from mtrain.training.schedule import last_update, learning_rate


def config(**keys: Any) -> TrainingConfig:
    return TrainingConfig(learning_rate=0.01, warmup_updates=100, max_updates=1100, **keys)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "inverse_sqrt"])
def test_every_shape_warms_up_in_a_line_to_the_highest_rate(schedule: str) -> None:
    training = config(schedule=schedule)
    assert learning_rate(0, 1100, training) == pytest.approx(0.0001)
    assert learning_rate(49, 1100, training) == pytest.approx(0.005)
    assert learning_rate(99, 1100, training) == pytest.approx(0.01)
    assert learning_rate(100, 1100, training) == pytest.approx(0.01)
    rates = [learning_rate(update, 1100, training) for update in range(1101)]
    assert max(rates) == pytest.approx(0.01)
    assert rates[100:] == sorted(rates[100:], reverse=True)


@pytest.mark.parametrize(
    ("schedule", "quarter", "half", "end"),
    [
        ("linear", 0.0075, 0.005, 0.0),
        ("cosine", 0.005 * (1 + math.sqrt(0.5)), 0.005, 0.0),
        ("inverse_sqrt", 0.01 * math.sqrt(100 / 350), 0.01 * math.sqrt(100 / 600),
         0.01 * math.sqrt(100 / 1100)),
    ],
)  # fmt: skip
def test_each_shape_comes_down_in_its_own_way(
    schedule: str, quarter: float, half: float, end: float
) -> None:
    training = config(schedule=schedule)
    for update, rate in ((350, quarter), (600, half), (1100, end)):
        assert learning_rate(update, 1100, training) == pytest.approx(rate)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "inverse_sqrt"])
def test_every_shape_ends_at_zero_under_a_time_budget(schedule: str) -> None:
    training = config(schedule=schedule, max_minutes=10)
    assert learning_rate(900, 900, training) == pytest.approx(0.0, abs=1e-9)
    assert 0 < learning_rate(899, 900, training) < 0.0002
    assert learning_rate(200, 900, training) > 0.005
    assert learning_rate(901, 900, training) == 0  # later than foretold is no negative rate


def test_inverse_sqrt_under_a_budget_is_itself_until_the_last_tenth() -> None:
    free, bound = config(schedule="inverse_sqrt"), config(schedule="inverse_sqrt", max_minutes=10)
    assert learning_rate(900, 1100, bound) == pytest.approx(learning_rate(900, 1100, free))
    halfway = learning_rate(1050, 1100, bound)
    assert halfway == pytest.approx(learning_rate(1050, 1100, free) / 2)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "inverse_sqrt"])
def test_a_warm_up_of_nothing_starts_at_the_highest_rate(schedule: str) -> None:
    training = TrainingConfig(
        learning_rate=0.01, warmup_updates=0, max_updates=10, schedule=schedule
    )
    assert learning_rate(0, 10, training) == pytest.approx(0.01)
    assert 0 <= learning_rate(9, 10, training) < 0.01


def test_a_run_shorter_than_its_warm_up_only_warms_up() -> None:
    training = config()
    rates = [learning_rate(update, 50, training) for update in range(50)]
    assert rates == pytest.approx([0.0001 * (update + 1) for update in range(50)])


@pytest.mark.parametrize(
    ("update", "minutes", "last"),
    [
        (0, 0.0, 1100),  # nothing known yet
        (10, 0.0, 1100),
        (50, 1.0, 500),  # 50 a minute for 10 minutes
        (50, 0.1, 1100),  # so fast that max_updates comes first
        (50, 20.0, 50),  # the time is over: never in the past
    ],
)
def test_the_budget_foretells_the_last_update(update: int, minutes: float, last: int) -> None:
    assert last_update(update, minutes, config(max_minutes=10)) == last


def test_without_a_budget_the_clock_decides_nothing() -> None:
    assert last_update(50, 1e9, config()) == 1100

"""What the end of a training and its first translations are said to mean."""

from typing import Any

import pytest

from mtrain.evaluation.diagnosis import describe_curve, describe_translations

Event = dict[str, Any]
TEXTS = [f"Satz {number}" for number in range(100)]


def curve(*points: tuple[float, float], train: tuple[float, ...] = ()) -> list[Event]:
    """Return events with (dev loss, BLEU) at each tenth minute and update 100, 200, ..."""
    events: list[Event] = []
    for number, (loss, bleu) in enumerate(points, 1):
        if train:
            events.append({"kind": "train", "update": 100 * number, "loss": train[number - 1]})
        events.append({"kind": "valid", "update": 100 * number, "minutes": 10.0 * number,
                       "loss": loss, "bleu": bleu})  # fmt: skip
    return events


def test_a_curve_that_still_rises_asks_for_more_minutes() -> None:
    # the last 10 % are 5 of 50 minutes: half of the last step from 30 to 32
    events = curve((4, 10), (3, 20), (2.5, 27), (2.2, 30), (2.1, 32))
    assert describe_curve(events) == (
        "dev BLEU still rose by 1.0 in the last 10% of the time: more minutes will help"
    )


@pytest.mark.parametrize("last", [30.1, 29.0])
def test_a_flat_curve_asks_for_something_else(last: float) -> None:
    message = describe_curve(curve((4, 10), (3, 20), (2.2, 30), (2.19, last)))
    assert message is not None
    assert "hardly help" in message


def test_a_dev_loss_that_rises_while_train_loss_falls_is_overfitting() -> None:
    points = ((3.0, 20.0), (2.0, 30.0), (2.1, 31.0), (2.3, 31.5))
    message = describe_curve(curve(*points, train=(3.0, 2.0, 1.5, 1.0)))
    assert message is not None
    assert message.startswith("dev loss has risen since update 200 (2.000 to 2.300)")
    assert "more dropout or more data" in message
    diverged = describe_curve(curve(*points, train=(3.0, 2.0, 2.5, 3.0)))
    assert diverged is not None
    assert "overfit" not in diverged
    assert "dropout" not in diverged


def test_two_validations_and_averages_are_no_curve() -> None:
    events = curve((3, 20), (2, 30))
    assert describe_curve([*events, {**events[-1], "averaged": 2}]) is None


@pytest.mark.parametrize(
    ("hypotheses", "loss", "wrong", "told"),
    [
        ([""] * 60 + TEXTS[:40], 3.0, 4.0, "60% of the translations of valid are empty"),
        (TEXTS, 3.0, 3.001, "does not use the source"),
        (["ja"] * 99 + ["nein"], 3.0, 4.0, "only 2 different texts"),
    ],
)
def test_translations_that_say_nothing_are_reported(
    hypotheses: list[str], loss: float, wrong: float, told: str
) -> None:
    message = describe_translations(hypotheses, loss, wrong)
    assert message is not None
    assert told in message


def test_translations_that_depend_on_the_source_and_few_ones_are_let_through() -> None:
    assert describe_translations(TEXTS, 3.0, 3.5) is None
    assert describe_translations(["ja"] * 5, 3.0, 3.0) is None

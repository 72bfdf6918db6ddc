"""A metric that cannot tell checkpoints apart is said, once, before it ends the run."""

import math

import pytest

from mtrain.evaluation.ties import TieWatch, describe_ties


@pytest.mark.parametrize(
    ("metric", "values", "patience", "told"),
    [
        ("bleu", [0.0], 0, None),
        ("bleu", [0.0, 0.0], 0, None),
        ("bleu", [0.0, 0.0, 0.0], 0, "bleu was 0.00 at all 3 validations so far"),
        ("bleu", [0.001, 0.0, 0.004], 0, "--set training.valid_metric=chrf"),
        ("chrf", [1.0, 1.0, 1.0], 9, "--set training.valid_metric=loss"),
        ("bleu", [0.0, 0.0, 0.0, 0.0], 0, None),  # it was said before
        ("bleu", [0.0, 0.0, 0.1], 0, None),
        ("bleu", [0.0, 0.0], 1, "training.patience 1 ends the run"),
        ("bleu", [0.0, 0.0, 0.0], 2, "training.patience 2 ends the run"),
        ("loss", [2.0, 2.0, 2.0], 0, None),
        ("bleu", [math.nan] * 3, 0, None),
    ],
)
def test_scores_that_never_moved_are_told_once(
    metric: str, values: list[float], patience: int, told: str | None
) -> None:
    message = describe_ties(metric, values, patience)
    assert message is None if told is None else told in str(message)


@pytest.mark.parametrize(
    ("best", "is_told"), [(-math.inf, False), (0.0, True), (7.5, False)], ids=["none", "tie", "7.5"]
)
def test_the_best_of_an_earlier_sitting_counts(
    best: float, is_told: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = TieWatch("bleu", patience=0)
    for before in (best, max(best, 0.0)):
        watch.note(0.0, before)
    assert ("cannot tell the checkpoints apart" in capsys.readouterr().err) is is_told

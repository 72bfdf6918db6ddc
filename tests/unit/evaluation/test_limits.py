"""Limits of `--fail-on`: what a number and a share allow, and what is said of each mistake."""

import pytest

from mtrain.errors import UserError
from mtrain.evaluation.health import STATUSES, health_of, judge_line
from mtrain.evaluation.limits import Limit, exceeded_limits, parse_limits

OUTPUTS = ["Ein Hund.", "", "Hund Hund Hund", ""]
HEALTH = health_of([judge_line("A dog.", output, ("en", "de")) for output in OUTPUTS], range(4))


def test_every_status_and_any_can_be_limited() -> None:
    names = (*STATUSES, "any")
    limits = parse_limits([f"{name}=3" for name in names])
    assert limits == [Limit(name, 3, is_share=False) for name in names]
    assert parse_limits(["any = 0.5 %"]) == [Limit("any", 0.5, is_share=True)]


@pytest.mark.parametrize(
    ("limit", "is_exceeded"),
    [("empty=1", True), ("empty=2", False), ("empty=49.9%", True), ("empty=50%", False),
     ("any=2", True), ("any=75%", False), ("repeated=0", True), ("copied=0", False)],
)  # fmt: skip
def test_a_limit_is_the_most_that_is_allowed(limit: str, is_exceeded: bool) -> None:
    messages = exceeded_limits(parse_limits([limit]), HEALTH)
    assert len(messages) == is_exceeded
    if is_exceeded:
        assert messages[0].endswith(f"of 4 lines, more than --fail-on {limit} allows")


def test_all_mistakes_are_told_at_once_with_the_names() -> None:
    with pytest.raises(UserError) as caught:
        parse_limits(["emty=0", "copied=many", "any=0", "repeated=200%"])
    message, hint = str(caught.value).rsplit("\n", 1)
    assert message.split("\n") == [
        "--fail-on emty=0: there is no emty; did you mean empty?",
        "--fail-on copied=many: many is neither a whole number nor a percentage",
        "--fail-on repeated=200%: 200% is over 100%",
    ]
    assert all(name in hint for name in (*STATUSES, "any"))

"""Options that take one value: given twice, they are refused by every verb."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer

from mtrain.cli import app
from mtrain.errors import UserError

GROUP = typer.main.get_group(app)


def single_options() -> Iterator[tuple[str, str, Any]]:
    """Yield each verb with each of its options that takes one value."""
    for verb, command in GROUP.commands.items():
        for option in command.params:
            is_flag, is_many = (getattr(option, key, False) for key in ("is_flag", "multiple"))
            if option.param_type_name == "option" and not is_flag and not is_many:
                yield verb, option.opts[0], option


@pytest.mark.parametrize(("verb", "name", "option"), list(single_options()))
def test_an_option_given_twice_is_refused(verb: str, name: str, option: Any) -> None:
    context = GROUP.make_context("mtrain", [verb])
    assert not option.multiple
    with pytest.raises(UserError) as caught:
        GROUP.resolve_command(context, [verb, name, "1", f"{name}=2"])
    assert f"{name} is given 2 times" in str(caught.value)
    assert caught.value.exit_code == 2
    GROUP.resolve_command(context, [verb, name, "1"])


def test_all_repeated_options_are_told_and_a_flag_is_not_contradicted() -> None:
    context = GROUP.make_context("mtrain", ["score"])
    given = ["score", "--json", "--hypotheses", "a", "--json", "--hypotheses", "b",
             "--references", "c", "--references", "d", "--set", "a=1", "--set", "b=1",
             "--baseline", "e", "--baseline", "e"]  # fmt: skip
    with pytest.raises(UserError) as caught:
        GROUP.resolve_command(context, given)
    assert str(caught.value).splitlines() == [
        "--hypotheses is given 2 times",
        "--baseline is given 2 times",
        "give it once: it takes one value",
    ]
    with pytest.raises(UserError, match="--pictures/--no-pictures is given 2 times"):
        GROUP.resolve_command(context, ["attention", "run", "--pictures", "--no-pictures"])

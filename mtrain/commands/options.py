"""Checks of command-line options: not repeated, and one of several.

Click silently takes the last of repeated options. Uses Click's objects without importing Click.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mtrain.errors import UserError


def check_given_once(command: Any, parent: Any, arguments: Sequence[str]) -> None:
    """Raise UserError for repeated options of a Click command that take one value.

    `parent` is the context of the command's group. A flag without a --no form may be repeated.
    """
    context = type(parent)(command, info_name=command.name, parent=parent)
    _, _, order = command.make_parser(context).parse_args(list(arguments))
    repeated = [
        f"{'/'.join((*option.opts, *option.secondary_opts))} is given {order.count(option)} times"
        for option in dict.fromkeys(order)
        if order.count(option) > 1
        and not getattr(option, "multiple", False)
        and (option.secondary_opts or not getattr(option, "is_flag", False))
    ]
    if repeated:
        raise UserError("\n".join(repeated), "give it once: it takes one value")


def one_of(flags: Mapping[str, bool], default: str) -> str:
    """Return the flag that is given, or the default; raise UserError if several are."""
    given = [name for name, is_given in flags.items() if is_given]
    if len(given) > 1:
        raise UserError(f"give one of {', '.join(f'--{name}' for name in given)}")
    return given[0] if given else default

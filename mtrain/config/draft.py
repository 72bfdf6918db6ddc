"""The text of a configuration with a reason beside each choice. Knows nothing about the reasons."""

from collections.abc import Mapping, Sequence

from mtrain.config.advice import Choice
from mtrain.config.load import dump_value

WIDTH = 120  # of a line with its comment; a longer comment stands above


def draft(
    opening: Sequence[str], top: Sequence[Choice], sections: Mapping[str, Sequence[Choice]]
) -> str:
    """Return a configuration: comment lines, keys at the top, then the sections that have any."""
    lines = [f"# {line}" for line in opening]
    lines += [line for choice in top for line in _lines(choice, "")]
    for section, choices in sections.items():
        if choices:
            lines.append(f"{section}:")
            lines += [line for choice in choices for line in _lines(choice, "  ")]
    return "".join(f"{line}\n" for line in lines)


def _lines(choice: Choice, indent: str) -> list[str]:
    line = f"{indent}{choice.key}: {dump_value(choice.value)}"
    if not choice.reason:
        return [line]
    reason = f"# {choice.reason}"
    if len(line) + len(reason) + 1 <= WIDTH:
        return [f"{line} {reason}"]
    return [f"{indent}{reason}", line]

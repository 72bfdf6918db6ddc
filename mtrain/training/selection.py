"""Parameters selected by name patterns: those that learn not, later, or at another rate.

A pattern is that of a shell: `encoder.*`, `*embedding*`. A tied tensor has several names, and each
of them selects it.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import Tensor, nn

from mtrain.errors import UserError


def freeze(model: nn.Module, patterns: Sequence[str]) -> None:
    """Freeze the parameters that match a pattern: they get no gradient.

    Raises UserError if a pattern matches nothing, or if no parameter is left to learn.
    """
    for parameter in _matching(model, patterns, "training.freeze"):
        parameter.requires_grad = False
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UserError(
            f"training.freeze: {', '.join(patterns)}: no parameter is left to learn",
            "leave out a pattern",
        )


def learning_rate_scales(model: nn.Module, scales: Mapping[str, float]) -> dict[Tensor, float]:
    """Return the factor of the learning rate of each parameter; the first match decides.

    Raises UserError if a pattern matches nothing.
    """
    found = _matching(model, scales, "training.learning_rate_scale")
    return {p: scales[found[p]] if p in found else 1.0 for p in model.parameters()}


def first_updates(model: nn.Module, starts: Mapping[str, int]) -> dict[Tensor, int]:
    """Return the update from which each parameter learns; the first match decides.

    Raises UserError if a pattern matches nothing.
    """
    found = _matching(model, starts, "training.unfreeze")
    return {p: starts[found[p]] if p in found else 0 for p in model.parameters()}


def _matching(model: nn.Module, patterns: Iterable[str], key: str) -> dict[Tensor, str]:
    """Return the parameters that match a pattern, each with the first that it matches."""
    named = list(model.named_parameters(remove_duplicate=False))
    found: dict[Tensor, str] = {}
    for pattern in patterns:
        matched = [parameter for name, parameter in named if fnmatchcase(name, pattern)]
        if not matched:
            names = [name for name, _ in named]
            close = difflib.get_close_matches(pattern, names, n=1, cutoff=0.0)
            kinds = ", ".join(dict.fromkeys(f"{name.split('.')[0]}.*" for name in names))
            raise UserError(
                f"{key}: {pattern} matches no parameter of the model",
                f"there are {kinds}; the nearest full name is {close[0]}",
            )
        for parameter in matched:
            found.setdefault(parameter, pattern)
    return found

"""Which layers of a run a new model starts from, where it has half as many (`init_from.layers`).

Works on the trees of both sections `model`, before or after validation.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mtrain.errors import UserError

KEY = "model.init_from.layers"
COUNTS = {"encoder": "encoder_layers", "decoder": "decoder_layers"}


def every_second(num_layers: int) -> list[int]:
    """Return every second of a run's layers, from 0, the first and the last among them.

    Of 12 layers 0, 2, 4, 7, 9 and 11, as DistilBERT's code takes (Sanh 2019); of 6 layers 0, 2 and
    5, as Shleifer and Rush 2020 take. `num_layers` is even.
    """
    half = num_layers // 2
    return [2 * number + (2 * number >= half) for number in range(half)]


def layers_to_copy(
    run: str, parts: Sequence[str], own: Mapping[str, Any], of_run: Mapping[str, Any]
) -> dict[str, list[int]]:
    """Return for each side, encoder or decoder, the layer of the run that each of its own copies.

    A side with half the layers of the run copies every second one, a side with as many copies all.
    `own` and `of_run` are sections `model`; the decoder may start from the encoder of a bert.
    Raises UserError for any other number of layers, where no side has half as many, and for an rnn.
    """
    if own.get("type") == "rnn":
        raise UserError(
            f"{KEY}: every_second: the layers of an rnn read states of different widths, so one "
            "cannot take the place of another",
            f"set {KEY}: all, which copies the lowest layers",
        )
    counts = {}
    for side, key in COUNTS.items():
        pair = own.get(key), of_run.get(key, of_run.get("encoder_layers"))
        if side in parts and all(isinstance(count, int) for count in pair):
            counts[side] = pair
    problems, hints = [], []
    for side, (new, old) in counts.items():
        if new not in (old, old / 2):
            problems.append(
                f"{KEY}: every_second: model.{COUNTS[side]} is {new}, neither half of the {old} "
                f"layers of {run} nor all"
            )
            hints.append(_hint(side, old))
    if not problems and not any(new < old for new, old in counts.values()):
        problems = [f"{KEY}: every_second: no side has half as many layers as {run}"]
        hints = [f"set model.{COUNTS[side]}: {old // 2}"
                 for side, (_, old) in counts.items() if old % 2 == 0]  # fmt: skip
    if problems:
        numbers = f"{'; '.join(hints)}; or " if hints else ""
        raise UserError("\n".join(problems), f"{numbers}set {KEY}: all")
    return {side: list(range(old)) if new == old else every_second(old)
            for side, (new, old) in counts.items()}  # fmt: skip


def _hint(side: str, num_layers: int) -> str:
    fitting = f"{num_layers}, all of them"
    if num_layers % 2 == 0:
        fitting = f"{num_layers // 2}, half of the run's, or {fitting}"
    return f"set model.{COUNTS[side]}: {fitting}"

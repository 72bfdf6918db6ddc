"""Several runs that translate together: their probabilities are averaged at each step.

The first run brings the configuration and tokenizers. Each has its best checkpoint or, if its path
is that of a checkpoint, this one: so several of one run can translate together.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from mtrain.config import Config
from mtrain.config.protection import name_of
from mtrain.config.purpose import check_translates
from mtrain.console import say
from mtrain.data.folders import OpenedRun, RunFolder, open_alike
from mtrain.errors import UserError
from mtrain.inference.load import LoadedRun, load_quietly, load_run
from mtrain.text.tokenizer import Tokenizer, given_as


def load_together(
    paths: Sequence[Path], checkpoint_name: str | None, overrides: Sequence[str]
) -> LoadedRun:
    """Return the first run, which translates with the others, without printing anything.

    The overrides are of its configuration. Raises `UserError` as `load_ensemble` does.
    """
    run = RunFolder.open(paths[0])
    config = run.config(tuple(overrides))
    opened = [(run, config), *open_alike(config, paths[1:])]
    return load_ensemble(opened, checkpoint_name, is_quiet=True)


def load_ensemble(
    opened: Sequence[OpenedRun], checkpoint_name: str | None, is_quiet: bool = False
) -> LoadedRun:
    """Return the first run, which translates with the others; one run alone is as it is.

    Prints the checkpoints, unless it is to be quiet. Raises `UserError` if a run has no checkpoint,
    or if the runs do not fit together.
    """
    load_each = load_quietly if is_quiet else load_run
    first, *others = opened
    if not others:
        return load_each(*first, checkpoint_name)
    check_members(opened)
    loaded = load_each(*first, checkpoint_name)
    ensemble = replace(loaded, others=tuple(load_each(*other, None) for other in others))
    for one, other in combinations(ensemble.runs, 2):
        if one.checkpoint.resolve() == other.checkpoint.resolve():
            raise _named_twice(other.checkpoint, "checkpoint")
    if not is_quiet:
        say(f"averaging the probabilities of {len(opened)} models")
    return ensemble


def check_members(opened: Sequence[OpenedRun]) -> None:
    """Raise UserError, naming the runs, if they cannot translate together."""
    for (run, _), (other, _) in combinations(opened, 2):
        is_same_run = run.path.resolve() == other.path.resolve()
        if is_same_run and run.checkpoint_name == other.checkpoint_name:
            raise _named_twice(other.path, "run")
    for run, config in opened:
        check_translates(config)
        if config.features is not None:
            raise UserError(
                f"{run.path}: this model reads the states of a BERT beside the source "
                "(model.features), and such a model translates alone",
                "average runs without model.features",
            )
    first, of_first = opened[0]
    for other, of_other in opened[1:]:
        _check_vocabularies(first, other)
        check_same_protection(
            of_first, of_other, f"{first.path} and {other.path} cannot be averaged"
        )


def _named_twice(path: Path, what: str) -> UserError:
    return UserError(
        f"{path}: this {what} is named twice, and its probabilities would count twice",
        f"name each {what} once",
    )


def check_same_protection(config: Config, other: Config, refused: str) -> None:
    """Raise UserError, which begins as given, if two runs do not protect the same spans."""
    if config.data.protect != other.data.protect:
        told = [", ".join(map(name_of, each.data.protect)) or "nothing" for each in (config, other)]
        raise UserError(
            f"{refused}: data.protect is {told[0]} in one and {told[1]} in the other, so their "
            "models do not read the same tokens",
            "name runs that were trained with the same data.protect",
        )


def _check_vocabularies(run: RunFolder, other: RunFolder) -> None:
    """Raise UserError if two runs have not the same pieces on each side."""
    ours, theirs = run.tokenizers(), other.tokenizers()
    if ours.digest() == theirs.digest():
        return
    for side in ("source", "target"):
        if told := _difference(getattr(ours, side), getattr(theirs, side)):
            raise UserError(
                f"{run.path} and {other.path} cannot be averaged: their {side} vocabularies "
                f"differ: {told}",
                "train one with the tokenizer of the other: "
                f"tokenizer: {{path: {given_as(run.path / 'tokenizer')}}}",
            )


def _difference(ours: Tokenizer, theirs: Tokenizer) -> str | None:
    """Return what differs between two vocabularies, if anything."""
    pieces = ours.all_pieces, theirs.all_pieces
    if len(pieces[0]) != len(pieces[1]):
        return f"{len(pieces[0]):,} and {len(pieces[1]):,} pieces"
    for number, (one, other) in enumerate(zip(*pieces, strict=True)):
        if one != other:
            return f"piece {number} is {one} and {other}"
    return None

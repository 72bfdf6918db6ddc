"""Writes a checkpoint of a sharded training: each process its rows, the first one all else."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mtrain.checkpoints.format import (
    begin_checkpoint,
    publish,
    reporting_full_disk,
    save_piece,
    unpublished,
)
from mtrain.distributed.group import ProcessGroup
from mtrain.distributed.sharding import is_sharded, own, own_rows, whole
from mtrain.errors import UserError
from mtrain.training.state import TrainState

T = TypeVar("T")


def save_together(
    path: Path, state: TrainState, figures: dict[str, Any], group: ProcessGroup
) -> Path | None:
    """Write a checkpoint; return its path in the first process, and None in the others.

    The first gathers the weights to translate with, one by one, into its main memory. It publishes
    the checkpoint after all pieces are on disk. An error of one process is raised in all.
    """

    def begin() -> None:
        if group.is_first:
            begin_checkpoint(path.parent, path.name)

    def write_own() -> dict[str, str]:
        tensors = {name: tensor for name, tensor in state.tensors().items()
                   if group.is_first or is_sharded(tensor)}  # fmt: skip
        first_rows = {name: own_rows(tensor).start for name, tensor in tensors.items()
                      if is_sharded(tensor)}  # fmt: skip
        rows = {name: own(tensor) for name, tensor in tensors.items()}
        return save_piece(writing, group.rank + 1, group.size, rows, first_rows)

    def finish() -> Path | None:
        if not group.is_first:
            return None
        digests = {name: digest for each in pieces for name, digest in each.items()}
        return publish(writing, path, weights, figures, digests)

    writing, weights = unpublished(path.parent, path.name), {}
    _in_all(group, path, begin)
    for name, weight in state.weights.items():
        gathered = whole(weight)
        if group.is_first:
            weights[name] = gathered.cpu()
    pieces = group.gather([_in_all(group, path, write_own)])
    return _in_all(group, path, finish)


def _in_all(group: ProcessGroup, path: Path, work: Callable[[], T]) -> T:
    """Do some work in all processes; raise an error of one in all, when all are done."""
    results, told = [], []
    try:
        with reporting_full_disk(path):
            results.append(work())
    except UserError as error:
        told.append((error.message, error.hint))
    if problems := group.gather(told):
        if group.is_first:  # no process writes any more
            shutil.rmtree(unpublished(path.parent, path.name), ignore_errors=True)
        raise UserError(*problems[0])
    return results[0]

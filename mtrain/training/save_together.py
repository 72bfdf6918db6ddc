"""Writes a checkpoint of a sharded training: each process its rows, the first one all else.

Each process copies its rows and writes them in the background. The first one waits in its own
thread for the digests of the others, which they leave beside their rows, and then publishes.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from mtrain.checkpoints.background import Snapshot
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
from mtrain.text.lines import write_whole
from mtrain.training.state import TrainState

SECONDS_BETWEEN_LOOKS = 0.05


def prepare_together(
    path: Path, state: TrainState, figures: dict[str, Any], group: ProcessGroup, copies: Snapshot
) -> Callable[[], Path | None]:
    """Copy what changes with the next update; return what writes the copy, in any thread.

    All processes call both. The first gathers the weights to translate with, one by one, into its
    main memory, and its call returns the path of the checkpoint; that of the others None.
    """
    writing, weights = unpublished(path.parent, path.name), {}
    _begin(path, group)
    for name, weight in state.weights.items():
        gathered = whole(weight)
        if group.is_first:
            weights[name] = gathered.to("cpu", copy=not is_sharded(weight))
    tensors = {name: tensor for name, tensor in state.tensors().items()
               if group.is_first or is_sharded(tensor)}  # fmt: skip
    first_rows = {name: own_rows(tensor).start for name, tensor in tensors.items()
                  if is_sharded(tensor)}  # fmt: skip
    rows = copies.take({name: own(tensor) for name, tensor in tensors.items()})

    def write() -> Path | None:
        with reporting_full_disk(path):
            try:
                digests = save_piece(writing, group.rank + 1, group.size, rows, first_rows)
                with write_whole(_digest_path(writing, group.rank)) as file:
                    file.write(json.dumps(digests).encode())
            except (OSError, SafetensorError):
                _digest_path(writing, group.rank).unlink(missing_ok=True)  # on a full disk, too
                raise
            if not group.is_first:
                return None
            return publish(writing, path, weights, figures, _digests_of_all(writing, group))

    return write


def _begin(path: Path, group: ProcessGroup) -> None:
    """Make the folder, with an empty digest of each process. An error is raised in all."""
    told = []
    if group.is_first:
        try:
            with reporting_full_disk(path):
                writing = begin_checkpoint(path.parent, path.name)
                for rank in range(group.size):
                    _digest_path(writing, rank).touch()
        except UserError as error:
            told.append((error.message, error.hint))
    if problems := group.gather(told):
        raise UserError(*problems[0])


def _digest_path(writing: Path, rank: int) -> Path:
    return writing / f"digest-{rank}"


def _digests_of_all(writing: Path, group: ProcessGroup) -> dict[str, str]:
    """Return the digests of all pieces, when they are on disk, and remove their files.

    Raises UserError if a process could not write its piece.
    """
    digests: dict[str, str] = {}
    for rank in range(group.size):
        path = _digest_path(writing, rank)
        while path.exists() and not path.stat().st_size:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        if not path.exists():
            raise UserError(
                f"{writing}: rank {rank} could not write its part of the checkpoint",
                "that process says why",
            )
        digests |= json.loads(path.read_bytes())
    for rank in range(group.size):
        _digest_path(writing, rank).unlink()
    return digests

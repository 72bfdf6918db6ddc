"""The updates of a run: which batches each one has, from a cursor on, for each process."""

from collections.abc import Iterator
from dataclasses import dataclass

from mtrain.data.batch import Batch
from mtrain.data.makers.padded import BatchMaker
from mtrain.data.plan import derive_seed


@dataclass(frozen=True)
class PlannedUpdate:
    """The batches of one update, and where in the plan the next update begins."""

    batches: list[Batch]
    next_epoch: int
    next_batch: int


def planned_updates(
    maker: BatchMaker,
    seed: int,
    accumulate: int,
    cursor: tuple[int, int],
    share: tuple[int, int],
) -> Iterator[PlannedUpdate]:
    """Yield updates for ever, from a cursor (epoch, batch) of the plan on.

    An update is `accumulate` batches. `share` is (rank, size) of this process, which gets every
    size-th batch of each update. An epoch's last update has the batches that are left.
    """
    rank, size = share
    epoch, start = cursor
    while True:
        plan = maker.plan(seed, epoch)
        while start < len(plan):
            end = min(start + accumulate, len(plan))
            batches = [
                maker.make(plan[number], derive_seed(seed, "subwords", epoch, number))
                for number in range(start + rank, end, size)
            ]
            start = end
            is_last = end == len(plan)
            yield PlannedUpdate(batches, epoch + is_last, 0 if is_last else end)
        epoch, start = epoch + 1, 0

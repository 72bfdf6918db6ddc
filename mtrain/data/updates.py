"""The updates of a run: the batches of each update and process, starting at a cursor."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from mtrain.data.batch import Batch
from mtrain.data.makers.base import Maker
from mtrain.data.mixture import Mixture
from mtrain.data.plan import derive_seed


@dataclass(frozen=True)
class PlannedUpdate:
    """This process's batches of one update, and the plan cursor of the next update."""

    batches: Sequence[Batch]
    next_epoch: int
    next_batch: int


def planned_updates(
    maker: Maker,
    mixture: Mixture,
    seed: int,
    accumulate: int,
    cursor: tuple[int, int],
    share: tuple[int, int],
) -> Iterator[PlannedUpdate]:
    """Yield updates without end, starting at a cursor (epoch, batch) of the plan.

    An update has `accumulate` batches; the last of an epoch has the remaining ones. `share` is
    (rank, size) of this process, which gets every size-th batch of each update. All processes get
    equally many: where one is missing, the update's first stands in, with no token to predict.
    """
    rank, size = share
    epoch, start = cursor
    while True:
        plan = maker.plan(mixture.rows(seed, epoch), seed, epoch)
        while start < len(plan):
            end = min(start + accumulate, len(plan))
            numbers = list(range(start + rank, end, size))
            is_missing = len(numbers) < -(-(end - start) // size)
            batches = [
                maker.make(plan[number], derive_seed(seed, "subwords", epoch, number))
                for number in [*numbers, *([start] if is_missing else [])]
            ]
            if is_missing:
                batches[-1] = replace(batches[-1], num_target_tokens=0)
            start = end
            is_last = end == len(plan)
            yield PlannedUpdate(batches, epoch + is_last, 0 if is_last else end)
        epoch, start = epoch + 1, 0

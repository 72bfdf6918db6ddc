"""The processes of `torchrun`, one GPU each, and the messages between them.

Every process plans the same batches and computes its share of each update. So the data and the
dropout of an update are the same for any number of processes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from importlib import import_module
from types import TracebackType
from typing import TypeVar

import torch
from torch import Tensor, distributed

from mtrain.distributed.peers import Peers
from mtrain.runtime.environment import (
    local_rank,
    num_local_processes,
    num_processes,
    process_rank,
)

TIMEOUT = timedelta(hours=6)  # longer than one process needs for a validation or checkpoint
T = TypeVar("T")


class ProcessGroup:
    """The group of processes that torchrun started; only this process without torchrun.

    A context manager: the process leaves the group at the end of the block.
    """

    def __init__(self, size: int | None = None) -> None:
        self.size = size or num_processes()
        self.rank = process_rank() if self.size > 1 else 0
        self._device = torch.device("cpu")
        self._leaving: list[Callable[[], None]] = []
        if self.size > 1:
            if has_gpu := torch.cuda.device_count() >= num_local_processes():
                torch.cuda.set_device(local_rank())
                self._device = torch.device("cuda", torch.cuda.current_device())
            # Its functions take the group that exists at its import as a default argument, and the
            # first optimiser imports it. A group kept there outlives `__exit__`, and its threads
            # may abort the interpreter at its end.
            import_module("torch.distributed.nn")
            self._peers = Peers(self.rank, self.size)
            with self._peers.meeting():
                distributed.init_process_group(
                    "cpu:gloo,cuda:nccl" if has_gpu else "gloo", timeout=TIMEOUT,
                    store=self._peers.group_store, rank=self.rank, world_size=self.size,
                )  # fmt: skip

    @staticmethod
    def alone() -> "ProcessGroup":
        """Return a group of this process only, even if torchrun has started several."""
        return ProcessGroup(size=1)

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and messages for all."""
        return self.rank == 0

    def note(self, phase: str) -> None:
        """Tell the other processes what this one does; each call shows them that it works."""
        if self.size > 1:
            self._peers.note(phase)

    def explaining(self) -> AbstractContextManager[None]:
        """Return a block in which torch exchanges something by itself.

        Raises UserError, which names the lost process, if a connection breaks there.
        """
        return self._peers.explaining() if self.size > 1 else nullcontext()

    @contextmanager
    def _meeting(self) -> Iterator[None]:
        """A block in which the processes exchange tensors; ends when that is done.

        On a GPU torch returns before: the host would wait elsewhere, unknown to the others.
        """
        with self._peers.meeting():
            yield
            if self._device.type == "cuda":
                torch.cuda.current_stream().synchronize()

    def sum(self, tensor: Tensor) -> None:
        """Sum a tensor over all processes, in place."""
        if self.size > 1:
            with self._meeting():
                distributed.all_reduce(tensor)

    def gather_tensors(self, tensor: Tensor) -> list[Tensor]:
        """Return the tensors of all processes, which have one shape, in the order of their rank."""
        if self.size == 1:
            return [tensor]
        everyones = [torch.empty_like(tensor) for _ in range(self.size)]
        with self._meeting():
            distributed.all_gather(everyones, tensor)
        return everyones

    def share(self, *numbers: float) -> list[tuple[float, ...]]:
        """Return the numbers of every process, exchanged in one message."""
        if self.size == 1:
            return [numbers]
        own = torch.tensor(numbers, dtype=torch.float64, device=self._device)
        return [tuple(theirs.tolist()) for theirs in self.gather_tensors(own)]

    def gather(self, items: Sequence[T]) -> list[T]:
        """Return the items of all processes, interleaved: the first of each, then the second."""
        if self.size == 1:
            return list(items)
        everyones: list[list[T]] = [[] for _ in range(self.size)]
        with self._peers.meeting():
            distributed.all_gather_object(everyones, list(items))
        longest = max(map(len, everyones))
        return [theirs[place] for place in range(longest) for theirs in everyones
                if place < len(theirs)]  # fmt: skip

    def before_leaving(self, release: Callable[[], None]) -> None:
        """Call a function that releases what keeps the group, before the process leaves it.

        Threads of a group that outlives `__exit__` may abort or block the interpreter at its end.
        """
        self._leaving.append(release)

    def __enter__(self) -> "ProcessGroup":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self.size > 1:
            self._peers.leave()
            for release in self._leaving:
                release()
            distributed.destroy_process_group()

"""Prefetching: a background thread produces the next items while the caller uses one."""

import queue
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Iterates over items that a background thread produces; measures the caller's wait."""

    DEPTH = 4

    def __init__(self, items: Iterable[T]) -> None:
        self._queue: queue.Queue[T | _Failure | None] = queue.Queue(self.DEPTH)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(items,), daemon=True)
        self._thread.start()
        self.seconds_waited = 0.0

    def __iter__(self) -> "Prefetcher[T]":
        return self

    def __next__(self) -> T:
        started = time.perf_counter()
        item = self._queue.get()
        self.seconds_waited += time.perf_counter() - started
        if item is None:
            raise StopIteration
        if isinstance(item, _Failure):
            raise item.error
        return item

    def close(self) -> None:
        """Stop the thread, also one blocked on a full queue, and wait for its end."""
        self._stopped.set()
        while self._thread.is_alive():
            with suppress(queue.Empty):
                self._queue.get(timeout=0.01)

    def _fill(self, items: Iterable[T]) -> None:
        try:
            for item in items:
                self._queue.put(item)
                if self._stopped.is_set():
                    return
            self._queue.put(None)
        except BaseException as error:  # __next__ raises it in the caller's thread
            self._queue.put(_Failure(error))


@dataclass(frozen=True)
class _Failure:
    error: BaseException

"""Parallelism over CPU threads: each computes whole results, not parts of a matrix product.

Intra-op threads wait for each other at every product, and a small model has hundreds of them.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import torch

from mtrain.errors import Interrupted

T = TypeVar("T")


@contextmanager
def ordered_map(
    function: Callable[..., T], device: torch.device, at_once: int | None = None
) -> Iterator[Callable[..., Iterable[T]]]:
    """Yield a `map` that on a CPU computes `at_once` results in parallel, on equal thread shares.

    By default `at_once` is torch's number of threads. Then each result has one thread and does not
    depend on their number. The end of the block cancels results that have not started.
    """
    num_threads = torch.get_num_threads()
    at_once = at_once or num_threads
    if device.type != "cpu" or at_once == 1:
        yield partial(map, function)
        return
    own_threads = partial(torch.set_num_threads, num_threads // at_once)
    pool = ThreadPoolExecutor(at_once, initializer=own_threads)
    try:
        yield partial(pool.map, function)
    except RuntimeError as error:
        if isinstance(error.__context__, KeyboardInterrupt | Interrupted):
            raise error.__context__ from None  # it hit a briefly unheld Python lock
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(num_threads)  # last: pool threads change it for later ones

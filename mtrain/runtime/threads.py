"""Threads of a CPU that compute a result each, instead of sharing every matrix product.

Those who share wait for each other at each product, of which a small model has hundreds.
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
    """Give a `map` that on a CPU computes so many results at a time, of which each has its threads.

    By default as many as torch has threads: then each has one, and what is computed does not depend
    on their number. What is not begun yet when the block ends is left.
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
            raise error.__context__ from None  # it met a lock of Python's for a moment not held
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(num_threads)  # last: a thread sets it for those to come as well

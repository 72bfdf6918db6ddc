"""Threads that compute a result each: how many, of how many threads, in which order."""

import threading
import time

import pytest
import torch

from mtrain.errors import Interrupted
from mtrain.runtime.threads import ordered_map
from tests.in_process import number_in_a_new_thread, torch_threads

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("num_threads", "at_once", "own"), [(1, None, 1), (4, None, 1), (4, 2, 2), (6, 4, 1), (4, 1, 4)]
)
def test_so_many_results_are_computed_at_a_time_and_share_the_threads(
    num_threads: int, at_once: int | None, own: int
) -> None:
    running, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(at_once or num_threads, timeout=60)  # 12 are so many times some

    def result(number: int) -> tuple[int, int]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait()
        with lock:
            running -= 1
        return number, torch.get_num_threads()

    with torch_threads(num_threads), ordered_map(result, CPU, at_once) as each:
        found = list(each(range(12)))
    assert found == [(number, own) for number in range(12)]
    assert most == (at_once or num_threads)


@pytest.mark.parametrize("num_threads", [1, 3])
def test_results_that_nobody_waits_for_are_not_computed_and_threads_are_given_back(
    num_threads: int,
) -> None:
    begun = []

    def result(number: int) -> int:
        begun.append(number)
        time.sleep(0.01)
        return number

    with torch_threads(num_threads):
        with ordered_map(result, CPU) as each:
            results = iter(each(range(500)))  # held on to, so that nothing else ends it
            assert next(results) == 0
        assert len(begun) < 250
        assert number_in_a_new_thread() == torch.get_num_threads() == num_threads


@pytest.mark.parametrize(
    ("happened", "expected"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (Interrupted(15, "stopped"), Interrupted),
        (ValueError(), RuntimeError),
    ],
    ids=["Ctrl-C", "SIGTERM", "something-else"],
)
def test_an_interruption_that_meets_a_lock_released_for_a_moment_is_told_as_itself(
    happened: BaseException, expected: type[BaseException]
) -> None:
    """As where the main thread waits for a result: "release unlocked lock" hides what happened."""

    def search() -> None:
        lock = threading.Lock()
        with torch_threads(2), ordered_map(str, CPU), lock:
            lock.release()
            raise happened

    with pytest.raises(expected):
        search()

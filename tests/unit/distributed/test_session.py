"""Processes agree on a session at a store where earlier ones have left theirs."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch.distributed import HashStore, Store

from mtrain.distributed.session import agree_on_session
from mtrain.errors import UserError


@pytest.fixture
def store() -> Store:
    """A store in this process, which waits for nothing."""
    store = HashStore()
    store.set_timeout(timedelta(seconds=5))
    return store


def meet(store: Store, ranks: list[int], size: int) -> list[str]:
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(lambda rank: agree_on_session(store, rank, size, 5.0), ranks))


def test_all_get_one_name_and_the_next_ones_another(store: Store) -> None:
    sessions = [meet(store, order, 3) for order in ([0, 1, 2], [2, 1, 0], [1, 0, 2])]
    assert [len(set(session)) for session in sessions] == [1, 1, 1]
    assert len({session[0] for session in sessions}) == 3


@pytest.mark.parametrize(("rank", "absent"), [(0, "rank 1, 2"), (1, "rank 0")])
def test_who_does_not_come_is_named_though_an_earlier_one_had(
    rank: int, absent: str, store: Store
) -> None:
    meet(store, [0, 1, 2], 3)
    with pytest.raises(UserError, match=f"have not come in 0 s: {absent}\n") as error:
        agree_on_session(store, rank, 3, 0.2)
    assert error.value.hint

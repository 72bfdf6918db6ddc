"""How processes agree on a name for their keys in a store that earlier ones may have used.

torchrun may start all processes again at the same store: without such a name, one could read the
address that another has left there before.
"""

import json
import secrets
import time

from torch.distributed.distributed_c10d import Store

from mtrain.errors import UserError

PREFIX = "mtrain/session"
SECONDS_BETWEEN_LOOKS = 0.05


def agree_on_session(store: Store, rank: int, size: int, seconds: float) -> str:
    """Return a name that all present processes get, and none before them had.

    Each leaves a fresh mark; the first writes down all marks that it sees with its own, which
    names the session; a process joins the session that has its fresh mark. Raises `UserError`
    if a process has not come after `seconds`.
    """
    own = secrets.token_hex(8)
    end = time.monotonic() + seconds
    store.set(f"{PREFIX}/mark/{rank}", own)
    while True:
        if rank == 0:
            marks = [_read(store, f"mark/{other}") for other in range(size)]
            store.set(f"{PREFIX}/marks", json.dumps(marks))
            absent = [other for other in range(1, size) if _read(store, f"joined/{other}") != own]
            session = None if absent else own
        else:
            absent, written = [0], json.loads(_read(store, "marks") or "[]")
            session = written[0] if written[rank : rank + 1] == [own] else None
        if session is not None:
            store.set(f"{PREFIX}/joined/{rank}", session)
            return session
        if time.monotonic() > end:
            ranks = ", ".join(map(str, absent))
            raise UserError(
                f"rank {rank}: of {size} processes, these have not come in {seconds:.0f} s: "
                f"rank {ranks}",
                "see what the machines say on which they should run",
            )
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _read(store: Store, name: str) -> str | None:
    key = f"{PREFIX}/{name}"
    found: bytes | None = store.get(key) if store.check([key]) else None
    return None if found is None else found.decode()

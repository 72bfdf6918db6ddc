"""Each process of torchrun tells the others that it is alive and what it does, and watches them.

One thread tells and asks, through the store that torchrun's processes meet at; another one judges,
because no answer may come. If another process is gone or stuck, the main thread may be waiting for
it inside a collective for hours: so the thread says which one, and ends this process. torchrun then
ends the others, and may start all again.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import timedelta

from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from mtrain.console import say
from mtrain.distributed.pulse import Ledger, Pulse
from mtrain.distributed.session import agree_on_session
from mtrain.errors import UserError, is_out_of_memory
from mtrain.runtime.environment import peer_limits, rendezvous_address

MEETING_TIMEOUT = timedelta(minutes=10)  # to reach the store; hosts start at different times
SILENT_ROUNDS = 12  # in the time after which a process without a pulse is lost
BROKEN_ROUNDS = 3  # the same, once a connection has broken
SIGNS_OF_A_BROKEN_CONNECTION = ("gloo/transport", "NCCL", "Connection ", "TCPStore", "Broken pipe")
HINT = (
    "look for the cause on that machine, then start all processes again: training resumes from "
    "the last checkpoint; torchrun --max-restarts N does so itself"
)


class Peers:
    """The other processes, as this one hears of them.

    `group_store` is for a process group of them. Raises `UserError` if the address that torchrun
    gives cannot be used, or if a process does not come.
    """

    def __init__(self, rank: int, size: int) -> None:
        silent_seconds, still_seconds = peer_limits()
        self._rank = rank
        self._interval = silent_seconds / SILENT_ROUNDS
        self._still_rounds = max(1, round(still_seconds / self._interval))
        self._ledger = Ledger(size, rank, self._interval)
        self._heard: list[Pulse | None] = [None] * size
        self._rounds = 0  # in which all have been asked
        self._phase, self._beat, self._moves, self._waits = "starting", 0, 0, False
        store = _open_store()
        session = agree_on_session(store, rank, size, MEETING_TIMEOUT.total_seconds())
        self._store = PrefixStore(f"{session}/peers", store)
        # a client of its own: each waits while another thread uses it
        self.group_store = PrefixStore(f"{session}/group", _open_store())
        self._left = threading.Event()
        self._teller = threading.Thread(target=self._tell, name="tell peers", daemon=True)
        self._teller.start()
        threading.Thread(target=self._judge, name="judge peers", daemon=True).start()

    def note(self, phase: str) -> None:
        """Tell the others what this process does; each call shows them that it works."""
        self._phase = phase
        self._moves += 1

    @contextmanager
    def meeting(self) -> Iterator[None]:
        """Exchange something with all others in this block.

        Raises `UserError`, which names the lost process, if a connection breaks.
        """
        self._moves += 1
        self._waits = True
        try:
            with self.explaining():
                yield
        finally:
            self._waits = False
            self._moves += 1

    @contextmanager
    def explaining(self) -> Iterator[None]:
        """Raise `UserError`, which names the lost process, if a connection breaks in this block."""
        try:
            yield
        except RuntimeError as error:
            is_broken = any(sign in str(error) for sign in SIGNS_OF_A_BROKEN_CONNECTION)
            if not is_broken or is_out_of_memory(error):
                raise
            raise self._explain(error) from None

    def leave(self) -> None:
        """Tell the others that this process leaves on purpose, and stop watching."""
        self._left.set()
        self._teller.join(timeout=2)

    def _tell(self) -> None:
        has_left = False
        with suppress(RuntimeError, ValueError):  # the host of the store is gone, or has left
            while not has_left:
                has_left = self._left.wait(self._interval)
                self._beat += 1
                self._heard = self._exchange(has_left)
                self._rounds += 1

    def _exchange(self, has_left: bool) -> list[Pulse | None]:
        own = Pulse(socket.gethostname(), os.getpid(), self._phase, self._beat, self._moves,
                    self._waits, has_left)  # fmt: skip
        self._store.set(_key(self._rank), json.dumps(asdict(own)))
        return [
            Pulse(**json.loads(self._store.get(_key(rank))))
            if former is not None or self._store.check([_key(rank)])
            else None
            for rank, former in enumerate(self._heard)
        ]

    def _judge(self) -> None:
        rounds = unanswered = 0
        while not self._left.wait(self._interval):
            unanswered += 1
            if rounds != self._rounds:
                rounds, unanswered = self._rounds, 0
                self._ledger.note(self._heard)
            lost = self._ledger.lost(SILENT_ROUNDS) or self._ledger.stuck(self._still_rounds)
            if lost:
                self._end(self._ledger.describe(lost))
            if unanswered >= SILENT_ROUNDS:
                self._end(
                    f"{rendezvous_address()} does not answer, where all processes tell what they "
                    f"do; last heard: {self._ledger.describe([0])}"
                )

    def _end(self, problem: str) -> None:
        """End this process at once: its main thread may be waiting where nothing can reach it."""
        error = self._error(problem)
        say(f"error: {error}")
        os._exit(error.exit_code)

    def _explain(self, error: RuntimeError) -> UserError:
        """Return the error of a broken connection, as soon as it is known who has gone."""
        for _ in range(2 * BROKEN_ROUNDS):
            time.sleep(self._interval)
            if lost := self._ledger.lost(BROKEN_ROUNDS):
                return self._error(self._ledger.describe(lost))
        return self._error("a connection to another process broke: " + str(error).split("\n")[0])

    def _error(self, problem: str) -> UserError:
        return UserError(f"rank {self._rank}, in phase: {self._phase}: {problem}", HINT)


def _open_store() -> Store:
    try:
        store: Store = next(rendezvous("env://", timeout=MEETING_TIMEOUT))[0]
    except (RuntimeError, ValueError) as error:
        raise _no_meeting(error) from None
    return store


def _key(rank: int) -> str:
    return f"pulse/{rank}"


def _no_meeting(error: Exception) -> UserError:
    reason = str(error).strip().split("\n")[0]
    if "EADDRINUSE" in reason:
        return UserError(
            f"{rendezvous_address()}: another program uses this port already",
            "give torchrun another --master-port, or start one machine's processes with "
            "--standalone",
        )
    return UserError(
        f"{rendezvous_address()}: the processes cannot meet there: {reason}",
        "MASTER_ADDR and MASTER_PORT, which torchrun sets, must lead from each machine to the "
        "one of rank 0",
    )

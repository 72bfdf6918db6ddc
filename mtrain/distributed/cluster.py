"""Runs the shards of a job on the workers of a Ray cluster. The only user of Ray.

A worker is an actor: a process on one of the cluster's machines that opens the job once (for
translation, loads the model) and then works on one shard after another. A worker that dies is
replaced, and its shard is given to another one: what a job keeps of it is on the shared storage.
"""

import logging
import os
import signal
import socket
from collections import Counter, deque
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from types import FrameType, TracebackType
from typing import Any
from urllib.parse import urlsplit

from mtrain.console import progress, say, warn
from mtrain.distributed.shards import Shard
from mtrain.errors import Interrupted, UserError, is_for_user, missing_extra
from mtrain.runtime.environment import keep_ray_silent

HERE = "local"  # the address that starts a cluster of this machine alone
MAX_DEATHS = 3  # of the workers on one shard, or of workers in a row that could not open the job
SECONDS_TO_ANSWER = 10.0
SIGNALS = signal.SIGTERM, signal.SIGHUP  # besides Ctrl-C
SECONDS_TO_START = 30.0  # of a worker, before the user hears of it

Work = Callable[[Shard], None]


class Cluster:
    """A Ray cluster, joined or started here. Use it in a `with` statement, which leaves it."""

    def __init__(self, address: str) -> None:
        """Raise UserError if Ray is missing or if nothing answers at the address."""
        if find_spec("ray") is None:
            raise missing_extra("ray", "cluster", "--ray")
        keep_ray_silent()
        import ray

        self._ray: Any = ray
        if address != HERE:
            _check_answers(address)
        self._handlers = {number: signal.getsignal(number) for number in SIGNALS}
        self._signal = 0  # that stopped the work
        try:
            self._ray.init(
                address, log_to_driver=False, logging_level=logging.ERROR, **_only_here(address)
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            told = str(error).strip().splitlines()
            raise UserError(
                f"--ray {address}: no cluster to join: {told[0] if told else error!r}",
                f"start one with `ray start --head` and give its address, or --ray {HERE}; for one "
                "that asks for a token set RAY_AUTH_MODE=token",
            ) from None
        for number, handler in self._handlers.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, self._stop)  # Ray's own handler aborts the process

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._ray.shutdown()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._signal:
            raise Interrupted(self._signal, "stopped by a signal") from None

    def _stop(self, number: int, _: FrameType | None) -> None:
        """Stop the work; of all that a handler may raise, only this ends Ray's waiting."""
        self._signal = number
        raise KeyboardInterrupt

    def run(
        self,
        name: str,
        shards: Sequence[Shard],
        open_job: Callable[[], Work],
        num_workers: int | None = None,
        may_use_gpus: bool = False,
    ) -> None:
        """Work through the shards, each worker with a core, or with a GPU if it may and can.

        By default there are as many workers as the cluster has of these. One that the cluster has
        no room for yet begins when it has. Raises the error of a shard that a user can fix, and a
        UserError if the workers on a shard die again and again.
        """
        resources = self._ray.cluster_resources()
        gpus = int(resources.get("GPU", 0)) if may_use_gpus else 0
        num_workers = num_workers or gpus or int(resources.get("CPU", 1))
        kind = "GPU" if gpus else "core"
        say(f"{name}: {len(shards)} shards, {num_workers} workers with a {kind}")
        with progress(name, len(shards), "shards") as shown:
            _Shift(self._ray, shards, open_job, min(gpus, 1), shown.advance).run(num_workers)


class _Worker:
    """The actor. It opens the job in a task: of an error in `__init__` Ray tells the text alone."""

    def open(self, folder: str, open_job: Callable[[], Work]) -> None:
        """Open the job in the working directory of the command."""
        try:
            os.chdir(folder)
        except OSError as error:
            raise UserError(
                f"{socket.gethostname()}: {folder}: {error.strerror}",
                "work in a folder on storage that all machines of the cluster share",
            ) from None
        self._work = open_job()

    def work(self, shard: Shard) -> None:
        self._work(shard)


class _Shift:
    """The workers on the shards of one job."""

    def __init__(
        self,
        ray: Any,
        shards: Sequence[Shard],
        open_job: Callable[[], Work],
        gpus: int,
        on_done: Callable[[int], None],
    ) -> None:
        self._ray = ray
        self._actor = ray.remote(_Worker).options(num_cpus=1, num_gpus=gpus)
        self._open_job = ray.put(open_job)
        self._waiting = deque(shards)
        self._on_done = on_done
        self._deaths: Counter[Shard | None] = Counter()
        # what each worker does, by Ray's reference to the result; None is to open the job
        self._tasks: dict[Any, tuple[Any, Shard | None]] = {}

    def run(self, num_workers: int) -> None:
        """Work until every shard is done."""
        for _ in range(min(num_workers, len(self._waiting))):
            self._hire()
        is_told = False
        while self._waiting or any(shard for _, shard in self._tasks.values()):
            done, _ = self._ray.wait(list(self._tasks), timeout=SECONDS_TO_START)
            if done:
                self._go_on(done[0])
            elif not is_told and not any(shard for _, shard in self._tasks.values()):
                warn("no worker has started: the cluster has no room, or it is slow")
                is_told = True

    def _hire(self) -> None:
        worker = self._actor.remote()
        self._tasks[worker.open.remote(os.getcwd(), self._open_job)] = worker, None

    def _go_on(self, done: Any) -> None:
        """Take the result of a task, and give its worker the next shard."""
        worker, shard = self._tasks.pop(done)
        exceptions = self._ray.exceptions
        try:
            self._ray.get(done)
        except exceptions.RayTaskError as error:
            if is_for_user(error.cause):
                raise error.cause from None
            raise
        except exceptions.RayActorError as error:
            self._replace(shard, error)
            return
        self._deaths[None] = 0
        if shard is not None:
            self._on_done(1)
        if self._waiting:
            following = self._waiting.popleft()
            self._tasks[worker.work.remote(following)] = worker, following
        else:
            self._ray.kill(worker)  # gives its place in the cluster back

    def _replace(self, shard: Shard | None, error: Exception) -> None:
        """Put the shard of a dead worker back, and hire another one."""
        self._deaths[shard] += 1
        what = "opens the job" if shard is None else f"works on shard {shard}"
        if self._deaths[shard] == MAX_DEATHS:
            raise UserError(
                f"{MAX_DEATHS} workers in a row have died while one {what}: {_first_lines(error)}",
                "Ray's log on that machine has the cause, such as too little memory or another "
                "version of mtrain",
            )
        if shard is not None:
            say(f"a worker has died; shard {shard} is given to another one")
            self._waiting.appendleft(shard)
        self._hire()


def _first_lines(error: Exception) -> str:
    return " ".join(line.strip() for line in str(error).splitlines()[:6])


def _only_here(address: str) -> dict[str, Any]:
    return {"include_dashboard": False} if address == HERE else {}


def _check_answers(address: str) -> None:
    """Raise UserError if no machine answers at `host:port` or `ray://host:port`."""
    place = urlsplit(address if "//" in address else f"//{address}")
    if address == "auto":
        return
    try:
        host, port = place.hostname, place.port
    except ValueError:
        host = port = None
    if host is None or port is None:
        raise UserError(
            f"--ray {address}: not an address",
            f"give host:port, ray://host:port, auto for the cluster of this machine, or {HERE}",
        )
    try:
        socket.create_connection((host, port), SECONDS_TO_ANSWER).close()
    except OSError as error:
        raise UserError(
            f"--ray {address}: nothing answers there ({error.strerror or error})",
            "look whether the head of the cluster runs: ray status",
        ) from None

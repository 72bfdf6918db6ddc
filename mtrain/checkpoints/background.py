"""Writing in the background: a copy of tensors that stays as it is, and one thread that writes.

Knows nothing of the checkpoint format. The caller decides what a job writes, and when to wait.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import torch
from safetensors import SafetensorError
from torch import Tensor

from mtrain.console import warn
from mtrain.errors import UserError


class Snapshot:
    """A copy of tensors in CPU memory, which updates of the originals do not change.

    It keeps its memory for the next copy: the first use of new memory takes longer than copying.
    """

    def __init__(self) -> None:
        self._copies: dict[str, Tensor] = {}

    @torch.no_grad()
    def take(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Copy the tensors, and return the copies; they are valid until the next call."""
        former = self._copies
        self._copies = {}
        for name, tensor in tensors.items():
            copy = former.get(name)
            if copy is None or (copy.shape, copy.dtype) != (tensor.shape, tensor.dtype):
                copy = torch.empty(tensor.shape, dtype=tensor.dtype)
            self._copies[name] = copy.copy_(tensor)
        return self._copies


class BackgroundWriter:
    """Runs one job at a time in a thread of its own.

    The error of a job is raised in the caller's thread, by the next call. A context manager: waits
    for the last job at the end of the block.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "writer")
        self._job: Future[None] | None = None

    def start(self, write: Callable[[], None]) -> None:
        """Start a job, after the end of the one before."""
        self.wait()
        self._job = self._thread.submit(write)

    def wait(self) -> None:
        """Return at the end of the job, if there is one. Raises its error."""
        job, self._job = self._job, None
        if job is not None:
            job.result()

    def raise_failure(self) -> None:
        """Raise the error of a job that has failed; never waits."""
        if self._job is not None and self._job.done():
            self.wait()

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except (UserError, OSError, SafetensorError) as failure:
            if error is None:
                raise
            warn(str(failure))  # the block's own error comes first
        finally:
            self._thread.shutdown()

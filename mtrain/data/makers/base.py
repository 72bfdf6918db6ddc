"""The interface of a batch maker: rows of a token store in, batches out."""

from abc import ABC, abstractmethod

from mtrain.data.batch import Batch
from mtrain.data.store import IntArray


class Maker(ABC):
    """Plans batches and makes them; a plan is a pure function of rows, seed and epoch."""

    kind: str  # a run must not resume with batches of another kind

    @abstractmethod
    def plan(self, rows: IntArray, seed: int, epoch: int) -> list[IntArray]:
        """Return the planned batches of an epoch of `rows`, each an argument for `make`."""

    @abstractmethod
    def plan_in_order(self, rows: IntArray) -> list[IntArray]:
        """Return the planned batches of one deterministic pass over `rows`."""

    @abstractmethod
    def largest(self, plan: list[IntArray]) -> Batch:
        """Return the batch of a plan that needs the most memory."""

    @abstractmethod
    def make(self, rows: IntArray, seed: int = 0) -> Batch:
        """Return the batch of planned rows; `seed` decides what is random in it."""

"""Who of several processes is alive and at work, from what they tell of themselves in each round.

Knows nothing of the network. It counts rounds and not seconds: after a machine was suspended,
nobody seems to have been silent.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MOST_NAMED = 3  # processes that a message names


@dataclass(frozen=True)
class Pulse:
    """What a process tells the others of itself."""

    host: str
    process: int  # its id there
    phase: str  # what it does
    beat: int  # grows while the process lives
    moves: int  # grows while its main thread works
    waits: bool = False  # for the others, in an exchange
    has_left: bool = False  # on purpose, so it will tell nothing more


class Ledger:
    """The last pulse of each process, and for how many rounds it has been silent or still."""

    def __init__(self, size: int, own_rank: int, seconds_per_round: float) -> None:
        self._own_rank = own_rank
        self._seconds = seconds_per_round
        self._pulses: list[Pulse | None] = [None] * size
        self._silent = [0] * size  # rounds without a beat
        self._still = [0] * size  # rounds without a move

    def note(self, pulses: Sequence[Pulse | None]) -> None:
        """Take the pulses of a round by rank; None if there is none yet."""
        for rank, pulse in enumerate(pulses):
            former = self._pulses[rank]
            beats = pulse is not None and (former is None or pulse.beat != former.beat)
            moves = pulse is not None and (former is None or pulse.moves != former.moves)
            self._silent[rank] = 0 if beats else self._silent[rank] + 1
            self._still[rank] = 0 if moves else self._still[rank] + 1
            self._pulses[rank] = pulse or former

    def lost(self, silent_rounds: int) -> list[int]:
        """Return the ranks that have beaten before, and not for so many rounds.

        So have those that have left while this process waits for them.
        """
        own = self._pulses[self._own_rank]
        waits = own is not None and own.waits and self._still[self._own_rank] > 1
        return [
            rank
            for rank, pulse in enumerate(self._pulses)
            if pulse is not None and rank != self._own_rank
            and (waits if pulse.has_left else self._silent[rank] >= silent_rounds)
        ]  # fmt: skip

    def stuck(self, still_rounds: int) -> list[int]:
        """Return the ranks that the others wait for, if no process has moved for so many rounds.

        Returns all ranks if all wait for one another.
        """
        present = [rank for rank, pulse in enumerate(self._pulses)
                   if pulse is None or not pulse.has_left]  # fmt: skip
        if len(present) < 2 or any(self._still[rank] < still_rounds for rank in present):
            return []
        pulses = self._pulses
        return [rank for rank in present if not ((pulse := pulses[rank]) and pulse.waits)] or (
            present
        )

    def describe(self, ranks: Sequence[int]) -> str:
        """Return where some processes are, and what each was last heard to do."""
        told = "; ".join(map(self._describe_one, ranks[:MOST_NAMED]))
        return told + (f"; and {len(ranks) - MOST_NAMED} more" * (len(ranks) > MOST_NAMED))

    def _describe_one(self, rank: int) -> str:
        pulse = self._pulses[rank]
        if pulse is None:
            return f"rank {rank} has never been heard of"
        where = f"rank {rank} on {pulse.host} (process {pulse.process})"
        silent, still = (rounds[rank] * self._seconds for rounds in (self._silent, self._still))
        if pulse.has_left:
            return f"{where} has left, last in phase: {pulse.phase}"
        if self._silent[rank] > 1:
            return f"{where} has not been heard of for {silent:.0f} s, last in phase: {pulse.phase}"
        does = "waits for others" if pulse.waits else "is alive, but has got no further"
        return f"{where} {does} for {still:.0f} s, in phase: {pulse.phase}"

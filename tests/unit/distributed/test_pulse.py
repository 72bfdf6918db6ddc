"""Which processes are lost or stuck, by what was heard of them in each round."""

from dataclasses import replace

import pytest

from mtrain.distributed.pulse import Ledger, Pulse

ALIVE = Pulse("host", 7, "update 3", beat=0, moves=0)


def rounds(
    ledger: Ledger, number: int, *pulses: Pulse | None, moving: tuple[int, ...] = ()
) -> None:
    """Let processes beat for some rounds; those in `moving` work too. A beat of -1 stays."""
    for count in range(1, number + 1):
        ledger.note(
            [
                pulse and replace(
                    pulse,
                    beat=pulse.beat if pulse.beat < 0 else pulse.beat + count,
                    moves=pulse.moves + count * (rank in moving),
                )
                for rank, pulse in enumerate(pulses)
            ]
        )  # fmt: skip


def test_who_does_not_beat_is_lost_though_nobody_waits() -> None:
    ledger = Ledger(3, own_rank=0, seconds_per_round=5.0)
    dead = replace(ALIVE, host="far", beat=-1, phase="validating after update 2")
    rounds(ledger, 4, ALIVE, ALIVE, dead, moving=(0, 1))
    assert ledger.lost(4) == []
    rounds(ledger, 4, replace(ALIVE, beat=10), replace(ALIVE, beat=10), dead, moving=(0, 1))
    assert ledger.lost(4) == [2]
    told = ledger.describe([2])
    assert told == (
        "rank 2 on far (process 7) has not been heard of for 35 s, last in phase: "
        "validating after update 2"
    )


def test_who_beats_and_does_not_move_is_stuck_once_all_others_wait() -> None:
    ledger = Ledger(3, own_rank=0, seconds_per_round=1.0)
    waiting = replace(ALIVE, waits=True)
    rounds(ledger, 9, waiting, ALIVE, waiting, moving=(1,))
    assert ledger.stuck(5) == []  # rank 1 works for long, as in a long validation
    rounds(ledger, 9, waiting, replace(ALIVE, moves=9), waiting)
    assert ledger.stuck(5) == [1]
    assert ledger.lost(5) == []
    assert "rank 1 on host (process 7) is alive, but has got no further" in ledger.describe([1])


def test_where_all_wait_for_one_another_all_are_named() -> None:
    ledger = Ledger(2, own_rank=0, seconds_per_round=1.0)
    waiting = replace(ALIVE, waits=True)
    rounds(ledger, 9, waiting, waiting)
    assert ledger.stuck(5) == [0, 1]
    assert "rank 0 on host (process 7) waits for others" in ledger.describe([0, 1])


def test_who_never_came_is_named() -> None:
    ledger = Ledger(2, own_rank=0, seconds_per_round=1.0)
    rounds(ledger, 9, replace(ALIVE, waits=True), None)
    assert ledger.lost(5) == []  # it may be about to come
    assert ledger.stuck(5) == [1]
    assert ledger.describe([1]) == "rank 1 has never been heard of"


@pytest.mark.parametrize("waits", [True, False])
def test_who_has_left_is_lost_to_those_that_wait(waits: bool) -> None:
    ledger = Ledger(2, own_rank=1, seconds_per_round=1.0)
    left = replace(ALIVE, has_left=True, beat=-1)
    rounds(ledger, 9, left, replace(ALIVE, waits=waits))
    assert ledger.lost(5) == ([0] if waits else [])
    assert ledger.stuck(5) == []  # one alone is never stuck
    assert "rank 0 on host (process 7) has left, last in phase: update 3" in ledger.describe([0])


def test_a_message_names_a_few_of_many() -> None:
    ledger = Ledger(9, own_rank=0, seconds_per_round=1.0)
    rounds(ledger, 9, replace(ALIVE, waits=True), *[None] * 8)
    told = ledger.describe(ledger.stuck(5))
    assert told.count("never been heard of") == 3
    assert told.endswith("; and 5 more")

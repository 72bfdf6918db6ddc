"""Two processes of torchrun that exchange numbers until something happens to one of them.

As a program, in torchrun's environment: python -m tests.cli.meeting RANK EVENT
"""

import os
import signal
import sys
import time
from collections.abc import Callable

from mtrain.distributed.group import ProcessGroup
from mtrain.errors import UserError

EVENTS: dict[str, Callable[[], object]] = {
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda: time.sleep(100),  # the main thread alone
    "leave": lambda: sys.exit(3),
    "nothing": lambda: None,
}


def main(rank: int, event: str) -> None:
    """Let the event happen to a rank after the first exchange."""
    with ProcessGroup() as group:
        group.note("update 1")
        group.share(1)
        group.note("validating after update 1")
        time.sleep(0.5)  # so that it is told
        if group.rank == rank:
            EVENTS[event]()
        group.share(2)


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), sys.argv[2])
    except UserError as error:
        sys.exit(f"error: {error}")

"""The environment of the process: what must be set before torch comes, and what torchrun says.

Knows no torch. With `onednn.py` the only place that reads or sets environment variables.
"""

import os


def shorten_waiting() -> None:
    """Let OpenMP threads that wait sleep soon; call it before torch is imported.

    By default they spin for long, which makes training 2 to 8 times slower on a machine with
    other work. On an idle machine the short spin costs 5 %.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def num_processes() -> int:
    """Return how many processes torchrun has started; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_rank() -> int:
    """Return the number of this process among those of torchrun, from 0."""
    return int(os.environ.get("RANK", "0")) if num_processes() > 1 else 0


def local_rank() -> int:
    """Return the number of this process among those of torchrun on this machine, from 0."""
    return int(os.environ["LOCAL_RANK"])

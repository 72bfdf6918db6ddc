"""Environment variables: those to set before torch is imported, and those of torchrun.

Does not import torch. Only this module and `onednn.py` set variables or read them by name.
"""

import os


def shorten_waiting() -> None:
    """Let waiting OpenMP threads sleep after a short spin; call it before torch is imported.

    The long spin of the default makes training 2 to 8 times slower on a machine with other load.
    On an idle machine the short spin costs 5 %.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def num_processes() -> int:
    """Return the number of processes that torchrun has started; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_rank() -> int:
    """Return the rank of this process among those of torchrun, from 0; 0 without torchrun."""
    return int(os.environ.get("RANK", "0")) if num_processes() > 1 else 0


def local_rank() -> int:
    """Return the rank of this process among those of torchrun on this machine, from 0."""
    return int(os.environ["LOCAL_RANK"])

"""Environment variables, and the cores of this process.

Does not import torch. Only this module and `onednn.py` set variables or read them by name.
"""

import os
import shutil
from pathlib import Path

from mtrain.errors import UserError


def shorten_waiting() -> None:
    """Let waiting OpenMP threads sleep after a short spin; call it before torch is imported.

    The long spin of the default makes training 2 to 8 times slower on a machine with other load.
    On an idle machine the short spin costs 5 %.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def keep_ray_silent() -> None:
    """Let Ray send no statistics of its use; call it before Ray is imported."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def num_processes() -> int:
    """Return the number of processes that torchrun has started; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_rank() -> int:
    """Return the rank of this process among those of torchrun, from 0; 0 without torchrun."""
    return int(os.environ.get("RANK", "0")) if num_processes() > 1 else 0


def local_rank() -> int:
    """Return the rank of this process among those of torchrun on this machine, from 0."""
    return int(os.environ["LOCAL_RANK"])


def num_local_processes() -> int:
    """Return the number of torchrun's processes on this machine; 1 without torchrun."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", num_processes()))


def rendezvous_address() -> str:
    """Return the host and port at which the processes of torchrun meet."""
    return f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"


def peer_limits() -> tuple[float, float]:
    """Return after how many seconds another process of torchrun is lost, or stuck.

    It is lost without a sign of life, and stuck if nobody gets any further. `MTRAIN_PEER_LIMITS`
    has other values than the default. Raises `UserError` if they are not two positive numbers.
    """
    told = os.environ.get("MTRAIN_PEER_LIMITS", "60,1800")
    try:
        silent, still = map(float, told.split(","))
    except ValueError:
        silent = still = 0.0
    if not (silent > 0 and still > 0):
        raise UserError(f"MTRAIN_PEER_LIMITS={told}: not two numbers of seconds, such as 60,1800")
    return silent, still


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def omp_num_threads() -> str | None:
    """Return OMP_NUM_THREADS, from which torch takes its number of intra-op threads."""
    return os.environ.get("OMP_NUM_THREADS")


def cuda_visible_devices() -> str | None:
    """Return CUDA_VISIBLE_DEVICES, which can hide GPUs from torch; None if it is not set."""
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def hugging_face_home() -> Path:
    """Return the folder where Hugging Face's libraries keep what they download."""
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.path.expanduser(os.environ.get("HF_HOME", f"{cache}/huggingface")))


def c_compiler() -> str | None:
    """Return the C compiler that Triton would call, to compile for a GPU."""
    return os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")

"""Peak memory use."""

import resource
import sys

import torch


def peak_memory(device: torch.device) -> int:
    """Return the peak memory so far, in bytes: on a GPU, or of this process on a CPU.

    That of CUDA graphs stays reserved while no tensor lies there.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

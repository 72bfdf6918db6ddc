"""How much memory was used."""

import resource
import sys

import torch


def peak_memory(device: torch.device) -> int:
    """Return the most bytes used so far: of the GPU, or on a CPU by this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

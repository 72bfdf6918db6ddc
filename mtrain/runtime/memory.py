"""Peak memory use."""

import resource
import sys

import torch


def peak_memory(device: torch.device) -> int:
    """Return the peak memory so far, in bytes: on a GPU, or of this process on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

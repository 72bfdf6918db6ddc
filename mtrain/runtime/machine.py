"""The machine as `init` asks for it: its cores, its GPU, and the number format it trains in."""

import torch

from mtrain.config.advice import Machine
from mtrain.runtime.precision import choose_precision


def look_at_machine() -> Machine:
    """Return the machine of this process; on a CPU, measure whether bf16 is faster."""
    chosen = choose_precision("auto", "auto", for_training=True)
    is_gpu = chosen.device.type == "cuda"
    return Machine(
        torch.get_num_threads(),
        chosen.name,
        chosen.reason,
        torch.cuda.get_device_name(chosen.device) if is_gpu else None,
    )

"""Ways to compute an update on a device, one file each: eager, CPU threads, CUDA graphs."""

from mtrain.config.training import TrainingConfig
from mtrain.runtime.precision import Precision
from mtrain.training.objectives import Objective
from mtrain.training.state import TrainState
from mtrain.training.steps.base import Step
from mtrain.training.steps.cpu_threads import CpuThreadsStep
from mtrain.training.steps.cuda_graph import CudaGraphStep

__all__ = ["Step", "build_step"]


def build_step(
    state: TrainState, objective: Objective, config: TrainingConfig, precision: Precision
) -> Step:
    """Return the fastest step for the device."""
    on_cpu = precision.device.type == "cpu"
    kind = CpuThreadsStep if on_cpu else CudaGraphStep
    return kind(state, objective, config, precision.device)

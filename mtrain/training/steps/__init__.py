"""Ways to compute an update on a device, one file each: eager, CPU threads, CUDA graphs."""

from mtrain.config.training import TrainingConfig
from mtrain.distributed.gradients import GradientSum
from mtrain.runtime.precision import Precision
from mtrain.training.state import TrainState
from mtrain.training.steps.base import Step
from mtrain.training.steps.cpu_threads import CpuThreadsStep
from mtrain.training.steps.cuda_graph import CudaGraphStep
from mtrain.training.steps.eager import EagerStep

__all__ = ["Step", "build_step"]


def build_step(
    state: TrainState, gradients: GradientSum, config: TrainingConfig, precision: Precision
) -> Step:
    """Return the fastest step for the device; sharded weights are gathered in eager execution."""
    if precision.device.type == "cpu":
        return CpuThreadsStep(state, gradients, config, precision.device)
    kind = EagerStep if state.is_sharded else CudaGraphStep
    return kind(state, gradients, config, precision.device)

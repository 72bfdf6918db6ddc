"""Connects a model with what computes its updates, alone or together with other processes."""

import torch

from mtrain.config.training import TrainingConfig
from mtrain.data.makers.padded import BatchMaker
from mtrain.distributed.gradients import build_gradient_sum
from mtrain.distributed.group import ProcessGroup
from mtrain.distributed.sharding import ShardedSum, hollow_copy, shard
from mtrain.errors import UserError
from mtrain.models.base import Model
from mtrain.runtime.precision import Precision
from mtrain.training.mean_loss import MeanLoss
from mtrain.training.objectives import Objective
from mtrain.training.selection import freeze
from mtrain.training.state import TrainState
from mtrain.training.steps import Step, build_step


def build_learner(
    model: Model,
    objective: Objective,
    config: TrainingConfig,
    precision: Precision,
    group: ProcessGroup,
    in_one_pass: bool,
) -> tuple[TrainState, Step]:
    """Return the state of a model and the step that trains it.

    `in_one_pass` is what `computes_in_one_pass` says.
    """
    mean_loss = MeanLoss(model, objective)
    if config.sharding == "full" and group.size > 1:
        return _sharded_learner(mean_loss, config, precision, group)
    state = TrainState(model, config, precision)
    gradients = build_gradient_sum(
        config.gradient_reduction, mean_loss, state.parameters, group, in_one_pass
    )
    return state, build_step(state, gradients, config, precision)


def _sharded_learner(
    mean_loss: MeanLoss, config: TrainingConfig, precision: Precision, group: ProcessGroup
) -> tuple[TrainState, Step]:
    """Share out a model's weights, gradients and optimiser state among the processes."""
    model = mean_loss.model
    if not model.layers:
        raise UserError(
            f"training.sharding: full: {type(model).__name__} is not made of layers to share out",
            "use training.sharding: none",
        )
    if precision.scales_loss:
        raise UserError(
            f"training.sharding: full cannot scale the loss, as {precision.name} needs",
            "use training.precision: bf16 or fp32",
        )
    hollow = hollow_copy(model)
    freeze(model, config.freeze)  # before, as the frozen ones have no gradients to share out
    shard(mean_loss, model.layers, group)
    state = TrainState(model, config, precision, hollow)
    return state, build_step(
        state, ShardedSum(mean_loss, state.parameters, group), config, precision
    )


def computes_in_one_pass(device: torch.device, is_capturable: bool, batches: str) -> bool:
    """Tell whether one eager backward pass computes a batch's gradients, in one thread.

    If not, CPU threads or a CUDA graph do. `batches` is their kind.
    """
    if device.type == "cpu":
        return torch.get_num_threads() == 1
    return batches == BatchMaker.kind or not is_capturable

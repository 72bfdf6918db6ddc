"""The optimisers of a model's parameters, and the moving average of its weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mtrain.config.training import TrainingConfig
from mtrain.distributed.sharding import is_sharded
from mtrain.nn.stacked import layer_matrices
from mtrain.training.muon import Muon
from mtrain.training.selection import first_updates, learning_rate_scales

EPSILON = 1e-9  # Vaswani 2017, section 5.3


class ConditionalAdamW(torch.optim.AdamW):
    """AdamW whose step the device skips if `found_inf` is 1, without host synchronisation.

    The fused kernel reads these two attributes, which `torch.amp.GradScaler` sets as well.
    """

    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None  # 1 if the next step must change nothing, else 0

    def step_where(self, is_finite: Tensor) -> None:
        """Step if the boolean tensor `is_finite` is true."""
        self.found_inf = (~is_finite).float()
        self.step()


Optimizers = Sequence[ConditionalAdamW | Muon]


def build_optimizers(model: nn.Module, config: TrainingConfig, products: torch.dtype) -> Optimizers:
    """Return fused AdamW (Loshchilov 2019), after Muon for the layers' matrices if configured.

    Each factor of the learning rate, and each start of learning, has groups of its own. Frozen
    parameters have no optimiser. Weight decay applies to matrices only. Muon multiplies in bf16 if
    `products` do; fp16 would lose small gradients.
    """
    scales = learning_rate_scales(model, config.learning_rate_scale)
    starts = first_updates(model, config.unfreeze)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    replays = parameters[0].is_cuda and not is_sharded(parameters[0])
    matrices = dict(layer_matrices(model)) if config.optimizer == "muon" else {}
    optimizers: list[ConditionalAdamW | Muon] = []
    groups: list[dict[str, Any]] = []
    for scale, start in dict.fromkeys((scales[p], starts[p]) for p in parameters):
        chosen = [p for p in parameters if (scales[p], starts[p]) == (scale, start)]
        # a CUDA graph replays the step, so a changing value must be a tensor on the GPU
        rate = config.learning_rate * scale
        common = {"lr": torch.tensor(rate, device="cuda") if replays else rate,
                  "scale": scale, "start": start}  # fmt: skip
        of_muon = [(p, matrices[p]) for p in chosen if p in matrices]
        if of_muon:
            dtype = products if products == torch.bfloat16 else torch.float32
            muon = Muon(of_muon, common["lr"], config.weight_decay, dtype)
            muon.param_groups[0] |= common
            optimizers.append(muon)
        others = [p for p in chosen if p not in matrices]
        decays = config.weight_decay, 0.0
        parts = [p for p in others if p.dim() > 1], [p for p in others if p.dim() <= 1]
        groups += [common | {"params": params, "weight_decay": decay}
                   for params, decay in zip(parts, decays, strict=True) if params]  # fmt: skip
    if groups:
        optimizers.append(
            ConditionalAdamW(
                groups, betas=config.adam_betas, eps=EPSILON, fused=True, capturable=replays
            )
        )
    return optimizers


def set_learning_rate(optimizers: Optimizers, rate: float, update: int) -> None:
    """Set the learning rate of an update, which each group scales by its factor.

    It is 0 for a group that learns later.
    """
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        scaled = rate * group["scale"] if update >= group["start"] else 0.0
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(scaled)
        else:
            group["lr"] = scaled


def optimizer_tensors(model: nn.Module, optimizers: Optimizers) -> dict[str, Tensor]:
    """Return all moments and step counts, named after their parameters."""
    owners = _owners(optimizers)
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        if parameter in owners
        for key, value in owners[parameter].state[parameter].items()
    }


def restore_optimizers(
    model: nn.Module, optimizers: Optimizers, tensors: dict[str, Tensor]
) -> None:
    """Restore the state that `optimizer_tensors` returned."""
    owners = _owners(optimizers)
    for name, parameter in model.named_parameters():
        prefix = f"{name}/"
        state = {
            key.removeprefix(prefix): value.clone().to(parameter.device)
            for key, value in tensors.items()
            if key.startswith(prefix)
        }
        if state:
            owners[parameter].state[parameter] = state


def _owners(optimizers: Optimizers) -> dict[Tensor, ConditionalAdamW | Muon]:
    """Return the optimiser of each parameter."""
    return {
        parameter: optimizer
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


class WeightAverage:
    """Exponential moving average of a model's parameters; a decay of 0 turns it off."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model = model
        self._decay = decay
        # by parameter name; empty if the average is off
        self.weights: dict[str, Tensor] = (
            {name: p.detach().clone() for name, p in model.named_parameters()} if decay else {}
        )

    @torch.no_grad()
    def update(self, num_updates: int) -> None:
        """Move towards the current weights; the decay is lower in early updates, to forget them."""
        if not self.weights:
            return
        decay = min(self._decay, (1 + num_updates) / (10 + num_updates))
        averages = list(self.weights.values())
        present = [p.detach() for p in self._model.parameters()]
        torch._foreach_lerp_(averages, present, 1 - decay)

    def restore(self, weights: dict[str, Tensor]) -> None:
        """Continue from a saved average."""
        for name, average in self.weights.items():
            average.copy_(weights[name])

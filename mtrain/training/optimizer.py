"""AdamW over a model's parameters, and the moving average of its weights."""

import torch
from torch import Tensor, nn

from mtrain.config.schema import TrainingConfig

EPSILON = 1e-9  # Vaswani 2017, section 5.3


class ConditionalAdamW(torch.optim.AdamW):
    """AdamW that can be told by a tensor to do nothing, so that nobody waits to read it.

    A fused one looks for these two, as `torch.amp.GradScaler` sets them.
    """

    grad_scale: Tensor | None = None
    found_inf: Tensor | None = None  # 1 where the next step is to do nothing, else 0

    def step_where(self, is_finite: Tensor) -> None:
        """Step where the tensor (a boolean) says so."""
        self.found_inf = (~is_finite).float()
        self.step()


def build_optimizer(model: nn.Module, config: TrainingConfig) -> ConditionalAdamW:
    """Return AdamW (Loshchilov 2019) in one fused kernel; only matrices decay."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    is_on_gpu = parameters[0].is_cuda
    rate = config.learning_rate
    return ConditionalAdamW(
        groups,
        # a GPU repeats a recorded step, so what changes has to lie on it
        lr=torch.tensor(rate, device=parameters[0].device) if is_on_gpu else rate,
        betas=config.adam_betas,
        eps=EPSILON,
        fused=True,
        capturable=is_on_gpu,
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of the next step."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return AdamW's moments and step counts, named after the parameters they belong to."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }


def restore_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` returned."""
    for name, parameter in model.named_parameters():
        prefix = f"{name}/"
        state = {
            key.removeprefix(prefix): value.clone().to(parameter.device)
            for key, value in tensors.items()
            if key.startswith(prefix)
        }
        if state:
            optimizer.state[parameter] = state


class WeightAverage:
    """Exponential moving average of a model's parameters; off with a decay of 0."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model = model
        self._decay = decay
        self._average = (
            {name: p.detach().clone() for name, p in model.named_parameters()} if decay else {}
        )

    @torch.no_grad()
    def update(self, num_updates: int) -> None:
        """Move towards the present weights; early on faster, so that the start is forgotten."""
        if not self._average:
            return
        decay = min(self._decay, (1 + num_updates) / (10 + num_updates))
        averages = list(self._average.values())
        present = [p.detach() for p in self._model.parameters()]
        torch._foreach_lerp_(averages, present, 1 - decay)

    def weights(self) -> dict[str, Tensor]:
        """Return the weights to translate with: the average, or the model's own."""
        return self._average or {name: p.detach() for name, p in self._model.named_parameters()}

    def restore(self, weights: dict[str, Tensor]) -> None:
        """Go on from a saved average."""
        for name, average in self._average.items():
            average.copy_(weights[name])

"""Several processes, a GPU each, as `torchrun` starts them. The only user of torch.distributed.

Every process plans the same batches and takes its share of each update, so the data and the
dropout of an update are the same for any number of processes.
"""

import os
from collections.abc import Iterable
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

PATIENCE = timedelta(hours=6)  # the others wait while the first one validates


class ProcessGroup:
    """This process among its peers; alone unless torchrun says otherwise."""

    def __init__(self) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.size > 1:
            has_gpu = torch.cuda.is_available()
            if has_gpu:
                torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
            distributed.init_process_group("nccl" if has_gpu else "gloo", timeout=PATIENCE)

    @property
    def is_first(self) -> bool:
        """The one process that validates, writes and speaks."""
        return self.rank == 0

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes, in one message."""
        if self.size == 1:
            return
        gradients = [
            torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            for parameter in parameters
        ]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        sizes = [gradient.numel() for gradient in gradients]
        for parameter, gradient, part in zip(parameters, gradients, flat.split(sizes), strict=True):
            parameter.grad = gradient.copy_(part.view_as(gradient))  # it may not move

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def total(self, value: int, device: torch.device) -> int:
        """Return the sum of the processes' whole numbers."""
        return value if self.size == 1 else int(self.sum(torch.tensor(value, device=device)))

    def maximum(self, value: float, device: torch.device) -> float:
        """Return the largest of the processes' numbers."""
        if self.size == 1:
            return value
        tensor = torch.tensor(value, dtype=torch.float64, device=device)
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        return float(tensor)

    def close(self) -> None:
        """Leave the group."""
        if self.size > 1:
            distributed.destroy_process_group()

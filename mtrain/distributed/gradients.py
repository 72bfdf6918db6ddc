"""Sums an update's gradients over its batches and over all processes.

The gradients are those of a loss that is divided by the target tokens of all processes. So they
are added, never averaged. Independent of what the loss is, and of the step that follows.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from typing import cast

import torch
from torch import Tensor, distributed, nn
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from mtrain.data.batch import Batch
from mtrain.distributed.group import ProcessGroup


class GradientSum(ABC):
    """Computes the loss of an update's batches, and adds their gradients."""

    has_sent = False  # whether gradients of this update have left: it cannot begin again

    def __init__(
        self, mean_loss: nn.Module, parameters: Sequence[nn.Parameter], group: ProcessGroup
    ) -> None:
        """Take a module that returns the loss () of a batch over a number of tokens."""
        self._mean_loss = mean_loss
        self._parameters = parameters
        self._group = group
        self._loss = torch.zeros(())

    def begin(self) -> None:
        """Begin an update; the gradients must be clear."""
        self._loss = torch.zeros((), device=self._parameters[0].device)
        self.has_sent = False

    def loss(self, batch: Batch, num_tokens: float | Tensor, is_last: bool) -> Tensor:
        """Return the loss () of a batch, or of a part of one.

        `is_last` says whether it is the last one of this process's update. Each must be followed
        by its backward pass.
        """
        del is_last
        loss: Tensor = self._mean_loss(batch, num_tokens)
        return loss

    def end_batch(self, loss: Tensor) -> None:
        """Note the loss () of a batch whose gradients have been added."""
        self._loss += loss

    @abstractmethod
    def finish(self) -> Tensor:
        """Leave the sums of all processes in `grad`, and return that of the losses, ()."""


class FlatSum(GradientSum):
    """Adds the gradients of all processes after the backward pass, in one message.

    For gradients that overlap with nothing: those that a CUDA graph replays, and those of CPU
    threads, which are added when the last thread is done.
    """

    def finish(self) -> Tensor:
        if self._group.size == 1:
            return self._loss
        flat = _flattened(self._parameters, self._loss)
        self._group.sum(flat)
        return _put_back(flat, self._parameters)


class OverlappedSum(GradientSum):
    """Adds the gradients while the last backward pass still computes others (torch's DDP)."""

    def __init__(
        self, mean_loss: nn.Module, parameters: Sequence[nn.Parameter], group: ProcessGroup
    ) -> None:
        super().__init__(mean_loss, parameters, group)
        # DDP would warn of a model that always uses all; drop-net leaves out branches, each process
        # its own
        mean_loss.never_used = nn.Parameter(torch.zeros((), device=parameters[0].device))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # newer: forward_sync_buffers
            self._parallel = DistributedDataParallel(
                mean_loss,
                broadcast_buffers=False,  # they are constants
                find_unused_parameters=True,
            )
        self._parallel.register_comm_hook(None, lambda _, bucket: _add(bucket.buffer()))
        group.before_leaving(self._release)

    def loss(self, batch: Batch, num_tokens: float | Tensor, is_last: bool) -> Tensor:
        with nullcontext() if is_last else self._parallel.no_sync():
            loss: Tensor = self._parallel(batch, num_tokens)
        self.has_sent |= is_last
        return loss

    def _release(self) -> None:
        del self._parallel

    def finish(self) -> Tensor:
        self._group.sum(self._loss)
        return self._loss


class OrderedSum(GradientSum):
    """Adds the gradients in the order of the batches: the reference.

    The sums are the same bits for any number of processes, each with as many threads. It sends
    every gradient of every batch to all processes, and each holds those of one batch of each.
    """

    def begin(self) -> None:
        super().begin()
        size = sum(parameter.numel() for parameter in self._parameters)
        self._sum = self._loss.new_zeros(size + 1 + len(self._parameters))

    def end_batch(self, loss: Tensor) -> None:
        self.has_sent = self._group.size > 1
        for theirs in self._group.gather_tensors(_flattened(self._parameters, loss)):
            self._sum += theirs
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad.zero_()  # in place: a CUDA graph uses its address

    def finish(self) -> Tensor:
        return _put_back(self._sum, self._parameters)


def build_gradient_sum(
    reduction: str,
    mean_loss: nn.Module,
    parameters: Sequence[nn.Parameter],
    group: ProcessGroup,
    can_overlap: bool,
) -> GradientSum:
    """Return the sum for `training.gradient_reduction`.

    `can_overlap` says whether one backward pass computes the gradients of a batch, in this thread.
    """
    kind: type[GradientSum] = FlatSum
    if reduction == "ordered":
        kind = OrderedSum
    elif all(can for (can,) in group.share(can_overlap)) and group.size > 1:
        kind = OverlappedSum
    return kind(mean_loss, parameters, group)


def _add(gradients: Tensor) -> Future[Tensor]:
    """Begin to add gradients to those of the other processes; DDP's own hook takes their mean."""
    work = distributed.all_reduce(gradients, async_op=True)
    return cast(Future[Tensor], work.get_future().then(lambda done: done.value()[0]))


def _flattened(parameters: Sequence[nn.Parameter], loss: Tensor) -> Tensor:
    """Return all gradients, the loss, and for each parameter whether it has a gradient."""
    gradients = [
        torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for parameter in parameters
    ]
    is_used = [parameter.grad is not None for parameter in parameters]
    # on a GPU a copy from the host would wait for it; there each has the one of its CUDA graph
    used = loss.new_tensor(is_used) if loss.is_cpu else loss.new_ones(len(is_used))
    return torch.cat([*(gradient.flatten() for gradient in gradients), loss[None], used])


def _put_back(flat: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Put sums of `_flattened` into `grad`, and return that of the losses, ()."""
    sizes = [parameter.numel() for parameter in parameters]
    *sums, loss, used = flat.split([*sizes, 1, len(sizes)])
    is_used = used.tolist() if flat.is_cpu else [1.0] * len(sizes)
    for parameter, part, has_gradient in zip(parameters, sums, is_used, strict=True):
        if not has_gradient:
            parameter.grad = None  # as in one process: the optimiser leaves it out
        elif parameter.grad is None:
            parameter.grad = part.view_as(parameter).clone()
        else:
            parameter.grad.copy_(part.view_as(parameter))  # a CUDA graph uses its address
    total: Tensor = loss[0]
    return total

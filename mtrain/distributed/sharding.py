"""FSDP2: the processes share out weights, gradients and optimiser state, each some rows of each.

A sharded parameter is a DTensor: its shape is that of the whole, and `own` returns the rows of this
process. A layer's weights are gathered for its forward and its backward pass alone; all that is in
no layer (embeddings, output layer, norms) from the forward to the end of the backward pass.

Shapes: R rows of a whole tensor, r those of this process.
"""

import copy
import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from mtrain.data.batch import Batch
from mtrain.distributed.gradients import GradientSum
from mtrain.distributed.group import ProcessGroup

SomeModule = TypeVar("SomeModule", bound=nn.Module)


def shard(mean_loss: nn.Module, layers: Sequence[nn.Module], group: ProcessGroup) -> None:
    """Share out the parameters of a module among all processes, each layer by itself."""
    device = next(mean_loss.parameters()).device.type
    mesh = init_device_mesh(device, (group.size,))
    for module in [*layers, mean_loss]:
        fully_shard(module, mesh=mesh)

    def release() -> None:
        # torch caches meshes for good, and a mesh and what FSDP made of it keep the process group
        getattr(mesh, "_pg_registry", {}).clear()
        for info in gc.get_referrers(mesh):
            if isinstance(info, dict):
                info.pop("shard_process_group", None)
            else:
                getattr(info, "__dict__", {}).pop("shard_process_group", None)

    group.before_leaving(release)


def is_sharded(tensor: Tensor) -> bool:
    """Tell whether this process has only some rows of a tensor."""
    return isinstance(tensor, DTensor)


def own(tensor: Tensor) -> Tensor:
    """Return the rows (r,...) of this process, in the same memory; all if it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Return all rows (R,...); all processes must call it, in the same order."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_rows(tensor: Tensor) -> slice:
    """Return which rows of the whole this process has."""
    if not isinstance(tensor, DTensor):
        return slice(0, len(tensor) if tensor.dim() else None)
    mesh = tensor.device_mesh
    most = -(-len(tensor) // mesh.size())
    first = min(mesh.get_local_rank() * most, len(tensor))
    return slice(first, min(first + most, len(tensor)))


def sharded_like(rows: Tensor, like: Tensor, shape: torch.Size) -> Tensor:
    """Return a tensor of a whole `shape`, shared out like another, from this process's rows."""
    if not isinstance(like, DTensor):
        return rows
    stride = torch.empty(shape, device="meta").stride()
    rows = rows.to(like.to_local().device)
    sharded: Tensor = DTensor.from_local(
        rows, like.device_mesh, like.placements, run_check=False, shape=shape, stride=stride
    )
    return sharded


class ShardedSum(GradientSum):
    """Adds the gradients batch by batch; each process keeps those of its rows.

    So no process ever holds the gradients of a whole model, as it would if it kept them for a
    single message at the end of the update.
    """

    def loss(self, batch: Batch, num_tokens: float | Tensor, is_last: bool) -> Tensor:
        self.has_sent = True
        # FSDP takes the mean: Gloo has no sum that FSDP can ask for
        return self._group.size * super().loss(batch, num_tokens, is_last)

    def end_batch(self, loss: Tensor) -> None:
        super().end_batch(loss / self._group.size)

    def finish(self) -> Tensor:
        self._group.sum(self._loss)
        return self._loss


def hollow_copy(model: SomeModule) -> SomeModule:
    """Return a copy of a model without weights, for `filled`."""
    empty = {id(p): nn.Parameter(p.detach().new_empty(0), False) for p in model.parameters()}
    return copy.deepcopy(model, cast(dict[int, object], empty))


@contextmanager
def filled(hollow: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Give a hollow copy all weights inside the block, gathered one by one.

    Each process then holds the whole model once more. All processes must enter the block if
    weights are sharded.
    """
    parameters = dict(hollow.named_parameters())
    try:
        for name, parameter in parameters.items():
            parameter.data = whole(weights[name].detach()).to(parameter.device)
        yield
    finally:
        for parameter in parameters.values():
            parameter.data = parameter.new_empty(0)

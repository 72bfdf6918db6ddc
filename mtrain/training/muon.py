"""Muon: momentum whose matrices are orthogonalised before each step (Jordan et al. 2024).

Shapes: K matrices of one shape, R rows, C columns, R <= C.
"""

from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor

from mtrain.distributed.sharding import is_sharded, own, own_rows, sharded_like, whole

MOMENTUM = 0.95
# of the quintic Newton-Schulz iteration: the steepest at zero that keeps singular values near 1
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 3  # Jordan et al. take 5; 3 learnt more in equal time (scripts/RESULTS.md)
EPSILON = 1e-7
# the root mean square of AdamW's updates, so that both take one learning rate (Liu et al. 2025)
UPDATE_RMS = 0.2


def orthogonalise(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the nearest semi-orthogonal matrices to `matrices` (K,R,C), roughly, in `dtype`.

    Newton-Schulz iterations bring singular values above a fiftieth of the norm to about 1.
    """
    first, second, third = COEFFICIENTS
    norms = torch.linalg.vector_norm(matrices, dim=(1, 2), keepdim=True).clamp_min(EPSILON)
    x: Tensor = matrices.to(dtype) / norms.to(dtype)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=second, alpha=third)
        x = torch.baddbmm(x, polynomial, x, beta=first)
    return x


class _Stack:
    """The parameters whose matrices have one shape (R,C), some of them transposed."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.parameters: list[tuple[Tensor, int]] = []  # each with its number of matrices

    def views(self, tensors: Iterable[Tensor]) -> list[Tensor]:
        """Return the matrices in tensors of the parameters' shapes."""
        pairs = zip(tensors, self.parameters, strict=True)
        return [matrix for tensor, (_, count) in pairs for matrix in self.matrices(tensor, count)]

    def matrices(self, tensor: Tensor, count: int) -> list[Tensor]:
        """Return the matrices in one tensor."""
        matrices = tensor.chunk(count)
        return [matrix if len(matrix) == self.shape[0] else matrix.mT for matrix in matrices]


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay.

    `matrices` are weights, each with how many matrices it stacks along its rows. Matrices of one
    shape are orthogonalised together, in products of `dtype`. A step never synchronises with
    the host.
    """

    def __init__(
        self,
        matrices: Iterable[tuple[Tensor, int]],
        lr: float | Tensor,
        weight_decay: float,
        dtype: torch.dtype,
    ) -> None:
        matrices = list(matrices)
        super().__init__([weight for weight, _ in matrices], {"lr": lr})
        self._weight_decay = weight_decay
        self._dtype = dtype
        stacks: dict[tuple[int, int], _Stack] = {}
        for weight, count in matrices:
            rows, columns = sorted((len(weight) // count, weight.shape[1]))
            stack = stacks.setdefault((rows, columns), _Stack((rows, columns)))
            stack.parameters.append((weight, count))
            self.state[weight]["momentum"] = torch.zeros_like(weight)
        self._stacks = list(stacks.values())

    @torch.no_grad()
    def step_where(self, is_finite: Tensor) -> None:
        """Step if the boolean tensor `is_finite` is true, without host synchronisation."""
        rate = self.param_groups[0]["lr"] * is_finite.float()
        for stack in self._stacks:
            of_stack = [weight for weight, _ in stack.parameters]
            weights = [own(weight) for weight in of_stack]
            momenta = [own(self.state[weight]["momentum"]) for weight in of_stack]
            # without a step the momentum stands in for the gradient, and so stays as it is
            gradients = [torch.where(is_finite, own(cast(Tensor, weight.grad)), momentum)
                         for weight, momentum in zip(of_stack, momenta, strict=True)]  # fmt: skip
            torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
            torch._foreach_lerp_(gradients, momenta, MOMENTUM)
            if self._weight_decay:
                torch._foreach_mul_(weights, 1 - rate * self._weight_decay)
            scale = -rate * UPDATE_RMS * stack.shape[1] ** 0.5
            if is_sharded(of_stack[0]):
                self._step_sharded(stack, gradients, scale)
                continue
            updates = orthogonalise(torch.stack(stack.views(gradients)), self._dtype)
            updates *= scale
            torch._foreach_add_(stack.views(weights), list(updates.float()))

    def _step_sharded(self, stack: _Stack, gradients: list[Tensor], scale: Tensor) -> None:
        """Add the updates by the own rows of gradients, which are gathered one by one.

        So a process holds one whole matrix at a time. Each orthogonalises all of them, as one
        process does: to share that out would need the matrices' rows exchanged once more.
        """
        for (weight, count), rows in zip(stack.parameters, gradients, strict=True):
            update = whole(sharded_like(rows, weight, weight.shape))
            matrices = stack.matrices(update, count)
            updates = orthogonalise(torch.stack(matrices), self._dtype)
            updates *= scale
            torch._foreach_copy_(matrices, list(updates.float()))
            own(weight).add_(update[own_rows(weight)])

    def step(self, closure: Any = None) -> Any:
        """Step unconditionally, after a gradient scaler has found all gradients finite."""
        device = self.param_groups[0]["params"][0].device
        self.step_where(torch.ones((), dtype=torch.bool, device=device))

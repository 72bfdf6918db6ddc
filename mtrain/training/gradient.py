"""The gradient of a batch on a CPU: each thread computes that of a part of the batch."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mtrain.data.batches import Batch
from mtrain.data.plan import derive_seed
from mtrain.nn.dropout import seeded_dropout
from mtrain.threads import ordered_map

LEAST_TOKENS = 256  # of the target that are worth a thread
MOST_AT_ONCE = 4  # each has a gradient of its own, as large as the model


def add_gradient(
    loss_of: Callable[[Batch], Tensor],
    batch: Batch,
    parts: int,
    parameters: Sequence[torch.nn.Parameter],
    seed: int,
) -> Tensor:
    """Add the gradient of a batch's loss to that of the parameters; return the loss.

    The loss has to be a sum over pairs, for threads share the batch, each having a part. If it is
    to be split into several `parts`, memory is scarce: then they come one after the other, and need
    no gradients of their own. The seed decides dropout.
    """
    at_once = 1 if parts > 1 else _threads_worthwhile(batch)

    def learn(number: int, part: Batch) -> tuple[Tensor, Sequence[Tensor | None]]:
        with seeded_dropout(derive_seed(seed, number)):
            loss = loss_of(part)
        if number == 0 or at_once == 1:  # all others wait to be added
            loss.backward()
            return loss.detach(), [None] * len(parameters)
        return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)

    split = batch.split(max(parts, at_once))
    total = torch.zeros(())
    with ordered_map(learn, torch.device("cpu"), at_once) as each:
        # one after the other, since a sum of floating-point numbers depends on their order
        for loss, gradients in each(range(len(split)), split):
            total += loss
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.backward(gradient)
    return total


def _threads_worthwhile(batch: Batch) -> int:
    worthwhile = batch.num_target_tokens // LEAST_TOKENS
    return max(1, min(torch.get_num_threads(), MOST_AT_ONCE, worthwhile))

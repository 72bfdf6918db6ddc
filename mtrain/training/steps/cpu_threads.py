"""Data parallelism over CPU threads: each computes the gradient of one slice of the batch.

Intra-op threads would synchronise at every matrix product; a small model has hundreds of them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mtrain.data.batch import Batch
from mtrain.data.plan import derive_seed
from mtrain.nn.dropout import seeded_dropout
from mtrain.runtime.threads import ordered_map
from mtrain.training.steps.eager import EagerStep

LEAST_TOKENS = 256  # tokens that justify a thread
MOST_AT_ONCE = 4  # threads; each holds a gradient as large as the model


class CpuThreadsStep(EagerStep):
    """Gives each thread a slice of the batch, and adds their gradients in order.

    Results are bit-identical for the same number of threads. After memory ran out, slices are
    computed sequentially and add to one gradient.
    """

    def accumulate(
        self, batch: Batch, num_tokens: float, seed: int, is_last: bool = True
    ) -> Tensor:
        is_whole = self.num_parts == 1 and not self._state.is_sharded  # FSDP is not thread-safe
        at_once = _threads_worthwhile(batch) if is_whole else 1
        parameters = self._state.parameters

        def learn(number: int, part: Batch) -> tuple[Tensor, Sequence[Tensor | None]]:
            with seeded_dropout(derive_seed(seed, number)):
                is_last_part = is_last and number == len(split) - 1
                loss = self.gradients.loss(part, num_tokens, is_last_part)
            if number == 0 or at_once == 1:  # others wait to be added in order
                loss.backward()
                return loss.detach(), [None] * len(parameters)
            return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)

        split = batch.split(max(self.num_parts, at_once))
        total = torch.zeros(())
        with ordered_map(learn, self._device, at_once) as each:
            # in order, because floating-point addition is not associative
            for loss, gradients in each(range(len(split)), split):
                total += loss
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    if gradient is not None:
                        parameter.backward(gradient)
        return total


def _threads_worthwhile(batch: Batch) -> int:
    worthwhile = batch.num_tokens // LEAST_TOKENS
    return max(1, min(torch.get_num_threads(), MOST_AT_ONCE, worthwhile))

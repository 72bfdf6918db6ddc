"""Work that a GPU records once, as a CUDA graph, and then repeats at a single call.

A small model's kernels take less time than a program takes to ask for them one by one.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

WARM_UPS = 3  # before recording: kernels are compiled and chosen, workspaces taken


class Recording:
    """A function of tensors that lie where they lie, repeated with other contents."""

    def __init__(
        self, function: Callable[[], Tensor], inputs: Sequence[Tensor], warm_ups: int = WARM_UPS
    ) -> None:
        """Record what the function does; before that it does it a few times."""
        self._inputs = inputs
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(warm_ups):
                function()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._result = function()

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Do it to inputs of the same shapes; the result stands until the next call."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._result


def is_failed_compilation(error: RuntimeError) -> bool:
    """Tell whether torch could not compile what it should, for want of a C compiler for example."""
    from torch._dynamo.exc import TorchDynamoException  # loaded where something is compiled

    return isinstance(error, TorchDynamoException)

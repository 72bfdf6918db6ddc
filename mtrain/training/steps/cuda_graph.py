"""CUDA graphs: capture an update once, then replay it with a single launch.

A small model's kernels take less time than the host takes to launch them one by one.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mtrain.console import say
from mtrain.data.batch import Batch
from mtrain.runtime.compilation import explained_compilation
from mtrain.training.steps.eager import EagerStep

WARM_UPS = 3  # eager calls before a capture: compile and select kernels, allocate workspaces


class CapturedFunction:
    """A captured function with static input buffers; a call copies its inputs in and replays."""

    def __init__(
        self, function: Callable[[], Tensor], inputs: Sequence[Tensor], warm_ups: int = WARM_UPS
    ) -> None:
        """Call the function `warm_ups` times, then capture it."""
        self._inputs = inputs
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(warm_ups):
                function()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # by default a thread that pins batches meanwhile would end the capture
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._result = function()

    def __call__(self, *inputs: Tensor) -> Tensor:
        """Replay with inputs of the same shapes; the next call overwrites the result."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._result


class CudaGraphStep(EagerStep):
    """Replays packed batches, and the optimiser's step, as CUDA graphs; the rest is eager.

    Padded batches vary in shape and cannot be captured. With loss scaling the optimiser's
    step stays eager: the scaler reads results on the host. Several processes add the gradients of
    replayed batches after the replay: the hooks that overlap them run in eager execution alone.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._captured: dict[int, CapturedFunction] = {}  # by the number of rows of a batch
        self._captured_step: CapturedFunction | None = None
        self._num_steps = 0

    def clear_gradients(self) -> None:
        # a graph writes gradients to their addresses at capture
        for optimizer in self._state.optimizers:
            optimizer.zero_grad(set_to_none=False)

    def prepare(self, batch: Batch) -> None:
        """Capture forward and backward of packed batches of this shape; changes gradients."""
        part = self._parts(batch)[0]
        if not self._state.model.is_capturable:
            return
        if not part.has_static_shape or part.num_rows in self._captured:
            return
        started = time.monotonic()
        own, num_tokens = part.to(self._device), torch.ones((), device=self._device)
        hint = "use training.compile_layers: false, or install a C compiler"
        with explained_compilation("the model's layers", hint):
            self._captured[part.num_rows] = CapturedFunction(
                lambda: self._learn(own, num_tokens, False), [*own.tensors(), num_tokens]
            )
        say(f"captured the update as a CUDA graph in {time.monotonic() - started:.1f} seconds")

    def accumulate(
        self, batch: Batch, num_tokens: float, seed: int, is_last: bool = True
    ) -> Tensor:
        torch.manual_seed(seed)
        total = torch.zeros((), device=self._device)
        parts = self._parts(batch)
        for number, part in enumerate(parts, start=1):
            if part.has_static_shape and part.num_rows in self._captured:
                replay = self._captured[part.num_rows]
                total += replay(*part.tensors(), torch.tensor(float(num_tokens)))
            else:
                is_last_part = is_last and number == len(parts)
                total += self._learn(part.to(self._device), num_tokens, is_last_part)
        return total

    def apply(self, loss: Tensor) -> Tensor:
        """Run the eager step WARM_UPS times, then capture it, then replay it."""
        if self._state.scaler.is_enabled():
            return super().apply(loss)
        if self._num_steps < WARM_UPS:  # AdamW allocates its moments in its first step
            self._num_steps += 1
            return super().apply(loss)
        if self._captured_step is None:
            own, eager = loss.clone(), super().apply
            self._captured_step = CapturedFunction(lambda: eager(own), [own], warm_ups=0)
        return self._captured_step(loss)

    def split_further(self) -> None:
        """Also drop the graphs of larger batches, and free their memory."""
        super().split_further()
        self._captured.clear()
        torch.cuda.empty_cache()

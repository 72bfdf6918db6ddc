"""The device and the number format of a run, and the reason for the choice."""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from mtrain.errors import UserError
from mtrain.runtime.environment import num_local_processes
from mtrain.runtime.onednn import (
    bf16_speedup,
    can_multiply_bf16,
    can_prepack,
    multiply_with_mkl,
    multiply_with_onednn,
    onednn_is_better,
)

WORTHWHILE = 1.3  # how many times as fast as fp32 products in bf16 must be
# rows times inputs times outputs of a product: below, oneDNN's code for each new shape of a batch
# costs more than it saves (width 64: batches of 500 tokens are slower with it, 1,200 as fast)
SMALLEST = 3e6
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """A device and the number format of matrix products; weights are always fp32."""

    device: torch.device
    name: str  # fp32, bf16 or fp16
    reason: str

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context to run the model in."""
        if self.name == "fp32":
            return nullcontext()
        # torch shares its cache of cast weights between threads and clears it when one of them is
        # done: where a weight is used several times, the order of sums would depend on timing
        return torch.autocast(self.device.type, self.type, cache_enabled=self.device.type != "cpu")

    @property
    def type(self) -> torch.dtype:
        """The torch dtype of the number format."""
        return TYPES[self.name]

    @property
    def prepacks_weights(self) -> bool:
        """Whether inference is faster with weights in oneDNN's layout."""
        if self.device.type != "cpu":
            return False
        if self.name == "fp32":
            return onednn_is_better()
        return can_prepack()

    @property
    def scales_loss(self) -> bool:
        """Whether gradients would underflow without loss scaling, as in fp16."""
        return self.name == "fp16"


def choose_precision(
    precision: str, device: str, for_training: bool = False, size: float = math.inf
) -> Precision:
    """Resolve `auto`, or check that the machine supports the request.

    On a CPU, `auto` is bf16 for training if that is faster, else fp32: the results of a search
    depend less on the batch. Products of less than `SMALLEST` in `size` stay in fp32, with MKL.
    Raises `UserError` if the machine does not support the request.
    """
    chosen = _choose_device(device)
    if chosen.type == "cpu":
        if size < SMALLEST:
            multiply_with_mkl()
        else:
            multiply_with_onednn()
        key = "training.precision" if for_training else "decoding.precision"
        if precision == "fp16":
            raise UserError(f"{key}: fp16 needs a GPU", "use auto, fp32 or bf16 on a CPU")
        if precision == "bf16" and not can_multiply_bf16():
            raise UserError(f"{key}: this CPU has no bf16", "use auto or fp32")
        if precision != "auto":
            return Precision(chosen, precision, "asked for")
        if for_training and size < SMALLEST:
            return Precision(chosen, "fp32", "bf16 gains nothing on products this small")
        if for_training:
            return _faster_on_cpu(chosen)
        return Precision(chosen, "fp32", "the default on a CPU")
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for each mask shape
    torch.backends.cudnn.allow_tf32 = False  # recurrent layers would round fp32 to TF32
    name = torch.cuda.get_device_name(chosen)
    if precision != "auto":
        return Precision(chosen, precision, f"asked for, on {name}")
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Precision(chosen, "bf16", f"{name} has it")
    return Precision(chosen, "fp16", f"{name} has no bf16; the loss is scaled")


def _faster_on_cpu(device: torch.device) -> Precision:
    speedup = bf16_speedup()
    if speedup >= WORTHWHILE:
        reason = f"its matrix products are {speedup:.1f} times as fast here as in fp32"
        return Precision(device, "bf16", reason)
    if speedup:
        return Precision(device, "fp32", f"bf16 is only {speedup:.1f} times as fast on this CPU")
    return Precision(device, "fp32", "this CPU has no bf16")


def _choose_device(device: str) -> torch.device:
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda was asked for, but torch sees no GPU", "use device: auto")
    if device != "cpu" and torch.cuda.is_available():
        if num_local_processes() > torch.cuda.device_count():
            raise UserError(
                f"{num_local_processes()} processes on this machine, and "
                f"{torch.cuda.device_count()} GPUs: each process needs one of its own",
                f"torchrun --nproc-per-node {torch.cuda.device_count()}, or device: cpu",
            )
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")

"""Where and in which number format to compute, and why."""

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from mtrain.errors import UserError
from mtrain.nn.packed import PackedLinear, can_pack

CPU_INFO = Path("/proc/cpuinfo")  # of Linux
# for how many sizes oneDNN, and torch's own cache of it, keep code: for as many as they would,
# 1,024 each, training takes up to four times the memory and is no faster
ONEDNN_CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Precision:
    """A device and the number format of matrix products; weights are always fp32."""

    device: torch.device
    name: str  # fp32, bf16 or fp16
    reason: str

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context in which the model computes."""
        if self.name == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, self.type)

    @property
    def type(self) -> torch.dtype:
        """The number format as torch names it."""
        return TYPES[self.name]

    @property
    def packs_weights(self) -> bool:
        """Weights that are only read are multiplied faster as oneDNN reads them."""
        return self.is_fp32_on_cpu and onednn_is_better()

    @property
    def is_fp32_on_cpu(self) -> bool:
        """Whether weights and products are what a CPU computes by itself."""
        return self.device.type == "cpu" and self.name == "fp32"

    @property
    def scales_loss(self) -> bool:
        """fp16 gradients underflow without it."""
        return self.name == "fp16"


def choose_precision(precision: str, device: str) -> Precision:
    """Resolve `auto`, or check that what was asked for is to be had."""
    chosen = _choose_device(device)
    if chosen.type == "cpu":
        multiply_with_onednn()
        if precision == "fp16":
            raise UserError(
                "training.precision: fp16 needs a GPU", "use auto, fp32 or bf16 on a CPU"
            )
        reason = "asked for" if precision != "auto" else "a CPU computes in fp32"
        return Precision(chosen, "fp32" if precision == "auto" else precision, reason)
    torch.backends.cuda.enable_cudnn_sdp(False)  # it makes a plan for each new shape of a mask
    torch.backends.cudnn.allow_tf32 = False  # fp32 is fp32: recurrent layers would round
    name = torch.cuda.get_device_name(chosen)
    if precision != "auto":
        return Precision(chosen, precision, f"asked for, on {name}")
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return Precision(chosen, "bf16", f"{name} has it")
    return Precision(chosen, "fp16", f"{name} has no bf16; the loss is scaled")


def multiply_with_onednn() -> None:
    """Have oneDNN instead of MKL multiply fp32 matrices in this process, where that is better."""
    if onednn_is_better():
        _products().fp32_precision = "bf16"


def multiply_with_mkl() -> None:
    """Have MKL multiply again.

    A search with packed weights leaves it the products of attention: a few rows each, and of new
    sizes at every step, for which oneDNN would make new code.
    """
    _products().fp32_precision = "none"


@cache
def onednn_is_better() -> bool:
    """Tell whether oneDNN multiplies fp32 matrices faster than MKL, and as exactly.

    MKL keeps its AVX-512 code for processors of its maker; on others oneDNN is twice as fast.
    torch asks it only where products may be rounded to bf16: a leave that oneDNN takes on AMX
    alone. So whether they stay exact is tried.
    """
    try:
        with CPU_INFO.open("rb") as file:
            first = file.read(200)  # the whole has as much for every core
    except OSError:
        return False
    if b"AuthenticAMD" not in first or not can_pack():
        return False
    for name, capacity in ONEDNN_CACHES.items():  # read when oneDNN is first used
        os.environ.setdefault(name, capacity)
    products = _products()
    before, products.fp32_precision = products.fp32_precision, "bf16"
    is_exact = _multiplies_exactly()
    products.fp32_precision = before
    return is_exact


def _products() -> Any:
    """Return torch's setting of what fp32 products may be rounded to."""
    return cast(Any, torch.backends.mkldnn).matmul


@torch.no_grad()
def _multiplies_exactly() -> bool:
    """Tell whether products keep digits that bf16, and TF32 as well, would round away."""
    linear = nn.utils.skip_init(nn.Linear, 256, 256, bias=False)
    linear.weight.copy_(torch.eye(256))
    inputs = [torch.full((rows, 256), 1 + 2**-20) for rows in (1, 16, 512)]
    return all(
        bool((multiply(x) == x).all())
        for multiply in (linear, PackedLinear(linear))
        for x in inputs
    )


def _choose_device(device: str) -> torch.device:
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda was asked for, but torch sees no GPU", "use device: auto")
    if device != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")

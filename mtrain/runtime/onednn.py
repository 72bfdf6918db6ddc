"""oneDNN: whether it beats MKL on this CPU, bf16 beats fp32, and linear maps in its own layout.

Shapes: I width of an input, O width of an output.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

CPU_INFO = Path("/proc/cpuinfo")  # of Linux
# shapes that oneDNN's code cache and torch's cache for oneDNN keep; with the default of 1,024
# training takes up to four times the memory and is no faster
ONEDNN_CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}
MEASURED = 1024, 512, 1024  # rows, inputs and outputs of the product that is measured
ROUNDS = 5  # of the measurement; the fastest counts
ROWS = 64  # of a typical input; oneDNN chooses the weight layout for it


def multiply_with_onednn() -> None:
    """Use oneDNN for fp32 matrix products in this process, if it is faster than MKL."""
    if onednn_is_better():
        _matmul().fp32_precision = "bf16"


def multiply_with_mkl() -> None:
    """Use MKL for fp32 matrix products again.

    In search with prepacked weights, only the products of attention remain. They have few rows and
    new shapes at every step, for which oneDNN would generate new code.
    """
    _matmul().fp32_precision = "none"


@contextmanager
def multiplying_with_mkl() -> Iterator[None]:
    """Use MKL for fp32 matrix products inside the block."""
    before = _matmul().fp32_precision
    multiply_with_mkl()
    try:
        yield
    finally:
        _matmul().fp32_precision = before


@cache
def onednn_is_better() -> bool:
    """Tell whether oneDNN computes fp32 matrix products faster than MKL, and as exactly.

    MKL uses its AVX-512 code only on Intel processors; on AMD's oneDNN is twice as fast. torch uses
    oneDNN only if products may be rounded to bf16. oneDNN itself rounds only with AMX, so a test
    product shows whether results stay exact.
    """
    try:
        with CPU_INFO.open("rb") as file:
            first = file.read(200)  # every core has the same entry
    except OSError:
        return False
    if b"AuthenticAMD" not in first or not can_prepack():
        return False
    for name, capacity in ONEDNN_CACHES.items():  # read when oneDNN is first used
        os.environ.setdefault(name, capacity)
    matmul = _matmul()
    before, matmul.fp32_precision = matmul.fp32_precision, "bf16"
    is_exact = _multiplies_exactly()
    matmul.fp32_precision = before
    return is_exact


@cache
def bf16_speedup() -> float:
    """Measure how many times as fast as in fp32 this CPU multiplies in bf16; 0 if it cannot.

    Both products have the type of their inputs, as in training, and include the casts of autocast.
    """
    if not can_multiply_bf16():
        return 0.0
    x, weight = torch.ones(MEASURED[0], MEASURED[1]), torch.ones(MEASURED[2], MEASURED[1])

    def seconds(dtype: torch.dtype) -> float:
        started = time.perf_counter()
        F.linear(x.to(dtype), weight.to(dtype))
        return time.perf_counter() - started

    rounds = [(seconds(torch.float32), seconds(torch.bfloat16)) for _ in range(ROUNDS)]
    return min(fp32 for fp32, _ in rounds) / min(bf16 for _, bf16 in rounds)


def can_multiply_bf16() -> bool:
    """Tell whether oneDNN multiplies bf16 on this CPU, however fast."""
    return torch.backends.mkldnn.is_available() and bool(
        torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def can_prepack() -> bool:
    """Tell whether this build of torch has oneDNN and its operations on prepacked weights."""
    names = ("_reorder_linear_weight", "_linear_pointwise")
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name) for name in names
    )


def prepack(weight: Tensor) -> Tensor:
    """Return a weight (O,I) in the layout that oneDNN reads."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
    return packed


def linear_prepacked(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return (...,O) for x (...,I) and a weight from `prepack`."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")
    return out


def _matmul() -> Any:
    """Return torch's settings of oneDNN products; `fp32_precision` is the allowed rounding."""
    return cast(Any, torch.backends.mkldnn).matmul


@torch.no_grad()
def _multiplies_exactly() -> bool:
    """Tell whether products keep digits that bf16 and TF32 would round away."""
    weight = torch.eye(256)
    packed = prepack(weight)
    return all(
        bool((product == x).all())
        for x in (torch.full((rows, 256), 1 + 2**-20) for rows in (1, 16, 512))
        for product in (F.linear(x, weight), linear_prepacked(x, packed, None))
    )

"""oneDNN: whether it multiplies faster than MKL here, and linear maps in its own weight layout.

Shapes: I width of an input, O width of an output.
"""

import os
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

CPU_INFO = Path("/proc/cpuinfo")  # of Linux
# how many shapes oneDNN, and torch's own cache of it, keep code for; with their default of 1,024
# training takes up to four times the memory and is no faster
ONEDNN_CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}
ROWS = 64  # of a typical input; oneDNN chooses the layout of the weights by it


def multiply_with_onednn() -> None:
    """Let oneDNN multiply fp32 matrices in this process, where that is faster than MKL."""
    if onednn_is_better():
        _matmul().fp32_precision = "bf16"


def multiply_with_mkl() -> None:
    """Let MKL multiply again.

    Search with prepacked weights leaves it attention's products: a few rows each, and of new
    shapes at every step, for which oneDNN would generate new code.
    """
    _matmul().fp32_precision = "none"


@cache
def onednn_is_better() -> bool:
    """Tell whether oneDNN multiplies fp32 matrices faster than MKL, and as exactly.

    MKL keeps its AVX-512 code for Intel processors; on AMD's oneDNN is twice as fast. torch uses
    oneDNN only where products may be rounded to bf16, which oneDNN itself does on AMX alone. So
    whether products stay exact is tried.
    """
    try:
        with CPU_INFO.open("rb") as file:
            first = file.read(200)  # the file repeats itself for every core
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
    """Return torch's setting of what fp32 products may be rounded to."""
    return cast(Any, torch.backends.mkldnn).matmul


@torch.no_grad()
def _multiplies_exactly() -> bool:
    """Tell whether products keep digits that bf16, and TF32 as well, would round away."""
    weight = torch.eye(256)
    packed = prepack(weight)
    return all(
        bool((product == x).all())
        for x in (torch.full((rows, 256), 1 + 2**-20) for rows in (1, 16, 512))
        for product in (F.linear(x, weight), linear_prepacked(x, packed, None))
    )

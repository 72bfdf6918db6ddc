"""Which number format on which device, and what is refused, on a machine without a GPU."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mtrain.errors import UserError
from mtrain.runtime import onednn, precision
from mtrain.runtime.onednn import (
    CPU_INFO,
    can_prepack,
    linear_prepacked,
    multiply_with_mkl,
    multiply_with_onednn,
    onednn_is_better,
)
from mtrain.runtime.precision import choose_precision
from tests.in_process import ONEDNN_IS_EXACT, needs_bf16


def test_a_cpu_searches_in_fp32_unless_asked_for_bf16() -> None:
    chosen = choose_precision("auto", "cpu")
    assert (chosen.device.type, chosen.name) == ("cpu", "fp32")
    assert not chosen.scales_loss
    if onednn.can_multiply_bf16():
        assert choose_precision("bf16", "cpu").name == "bf16"


@pytest.mark.parametrize(
    ("speedup", "name", "reason"),
    [
        (1.94, "bf16", "1.9 times as fast here as in fp32"),
        (0.5, "fp32", "bf16 is only 0.5 times as fast"),
        (0.0, "fp32", "no bf16"),
    ],
)
def test_a_cpu_trains_in_bf16_where_that_was_measured_to_pay(
    speedup: float, name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "bf16_speedup", lambda: speedup)
    chosen = choose_precision("auto", "cpu", for_training=True)
    assert chosen.name == name
    assert reason in chosen.reason
    assert choose_precision("fp32", "cpu", for_training=True).name == "fp32"


def test_small_products_stay_in_fp32_with_mkl_unless_bf16_is_asked_for(
    products: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "bf16_speedup", lambda: 2.0)
    monkeypatch.setattr(onednn, "CPU_INFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("vendor_id\t: AuthenticAMD\n")
    large = "bf16", "bf16" if ONEDNN_IS_EXACT else "none"
    for size, wanted in ((precision.SMALLEST, large), (precision.SMALLEST - 1, ("fp32", "none"))):
        chosen = choose_precision("auto", "cpu", for_training=True, size=size)
        assert (chosen.name, products.fp32_precision) == wanted
    if onednn.can_multiply_bf16():
        assert choose_precision("bf16", "cpu", for_training=True, size=1).name == "bf16"


def test_the_measurement_tells_processors_with_bf16_from_others() -> None:
    has_bf16 = CPU_INFO.exists() and "bf16" in CPU_INFO.read_text()
    assert onednn.can_multiply_bf16() or not has_bf16
    assert (onednn.bf16_speedup.__wrapped__() > 0) is onednn.can_multiply_bf16()


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        choose_precision("fp16", "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_refused_and_auto_takes_the_cpu() -> None:
    with pytest.raises(UserError, match="no GPU"):
        choose_precision("auto", "cuda")
    assert choose_precision("auto", "auto").device.type == "cpu"


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("fp32", torch.float32), pytest.param("bf16", torch.bfloat16, marks=needs_bf16)],
)
def test_autocast_computes_products_in_the_format(name: str, dtype: torch.dtype) -> None:
    with choose_precision(name, "cpu").autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


# -- products in fp32 on a CPU ---------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 5, 64, 1000])
@pytest.mark.parametrize(("inner", "outer"), [(64, 64), (256, 1024), (1024, 256), (256, 8000)])
def test_products_are_exact_to_fp32_whoever_multiplies(rows: int, inner: int, outer: int) -> None:
    choose_precision("fp32", "cpu")
    random = torch.Generator().manual_seed(1)
    x, y = torch.randn(rows, inner, generator=random), torch.randn(rows, outer, generator=random)
    weight = torch.randn(outer, inner, generator=random)
    for first, second in ((x, weight.T), (y, weight), (y.T, x), (x[None], weight.T[None])):
        product, sizes = first @ second, first.abs() @ second.abs()
        difference = product - (first.double() @ second.double())
        assert float((difference.abs() / sizes).max()) < 2**-20  # bf16 keeps 8 bits, TF32 11


@pytest.mark.parametrize(
    ("vendor", "product", "expected"),
    [
        ("AuthenticAMD", torch.float32, "bf16" if ONEDNN_IS_EXACT else "none"),
        ("AuthenticAMD", torch.bfloat16, "none"),
        ("GenuineIntel", torch.float32, "none"),
        (None, torch.float32, "none"),
    ],
)
def test_onednn_multiplies_on_amd_where_it_is_exact(
    vendor: str | None,
    product: torch.dtype,
    expected: str,
    products: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(onednn, "CPU_INFO", tmp_path / "cpuinfo")
    if vendor:
        (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nvendor_id\t: {vendor}\n")
    with torch.autocast("cpu", torch.bfloat16, enabled=product == torch.bfloat16):
        multiply_with_onednn()
        assert onednn_is_better() is (expected == "bf16")
        if onednn.can_multiply_bf16():
            assert choose_precision("bf16", "cpu").prepacks_weights is can_prepack()
    assert choose_precision("fp32", "cpu").prepacks_weights is (expected == "bf16")
    assert products.fp32_precision == expected


def test_mkl_multiplies_again_until_onednn_is_asked_for(
    products: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onednn, "CPU_INFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("vendor_id\t: AuthenticAMD\n")
    asked_for = "bf16" if ONEDNN_IS_EXACT else "none"
    for _ in range(2):
        choose_precision("fp32", "cpu")
        assert products.fp32_precision == asked_for
        multiply_with_mkl()
        assert products.fp32_precision == "none"


@pytest.mark.skipif(not can_prepack(), reason="this torch has no oneDNN")
def test_packed_products_that_round_are_found_out(
    products: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rounding(x: torch.Tensor, *others: Any) -> torch.Tensor:
        return linear_prepacked(x.bfloat16().float(), *others)

    monkeypatch.setattr(onednn, "CPU_INFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("vendor_id\t: AuthenticAMD\n")
    monkeypatch.setattr(onednn, "linear_prepacked", rounding)
    multiply_with_onednn()
    assert not onednn_is_better()
    assert products.fp32_precision == "none"


@pytest.mark.usefixtures("products")
def test_a_torch_that_cannot_pack_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onednn, "CPU_INFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("vendor_id\t: AuthenticAMD\n")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert choose_precision("fp32", "cpu").prepacks_weights is False
    with pytest.raises(UserError, match=r"decoding\.precision: this CPU has no bf16"):
        choose_precision("bf16", "cpu")
    assert onednn.bf16_speedup.__wrapped__() == 0  # unlike a call, not from the cache
    assert torch.backends.mkldnn.matmul.fp32_precision == "none"


MANY_SIZES = """
from resource import RUSAGE_SELF, getrusage
import torch
from mtrain.nn.prepacked import PrepackedLinear
from mtrain.runtime.onednn import can_prepack
from mtrain.runtime.precision import choose_precision
choose_precision("fp32", "cpu")
linears = [torch.nn.Linear(*sizes) for sizes in ((256, 256), (256, 1024), (1024, 256))]
multiply = [(linear, linear.in_features) for linear in linears]
if can_prepack():
    multiply += [(PrepackedLinear(linear), linear.in_features) for linear in linears]
before = getrusage(RUSAGE_SELF).ru_maxrss
with torch.inference_mode():
    for rows in range(1, 300):
        for linear, width in multiply:
            linear(torch.ones(rows, width))
print((getrusage(RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_products_of_many_sizes_leave_nothing_behind() -> None:
    """Else a training of batches of ever new sizes takes gigabytes; in megabytes."""
    finished = subprocess.run(
        [sys.executable, "-c", MANY_SIZES], capture_output=True, text=True, check=True
    )
    assert float(finished.stdout) < 200

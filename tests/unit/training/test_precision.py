"""Which number format on which device, and what is refused, on a machine without a GPU."""

import pytest
import torch

from mtrain.errors import UserError
from mtrain.training.precision import choose_precision


def test_a_cpu_computes_in_fp32_unless_asked_for_bf16() -> None:
    chosen = choose_precision("auto", "cpu")
    assert (chosen.device.type, chosen.name) == ("cpu", "fp32")
    assert "CPU" in chosen.reason
    assert choose_precision("bf16", "cpu").name == "bf16"
    assert not chosen.scales_loss


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        choose_precision("fp16", "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_refused_and_auto_takes_the_cpu() -> None:
    with pytest.raises(UserError, match="no GPU"):
        choose_precision("auto", "cuda")
    assert choose_precision("auto", "auto").device.type == "cpu"


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_products_in_the_format(name: str, dtype: torch.dtype) -> None:
    with choose_precision(name, "cpu").autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype

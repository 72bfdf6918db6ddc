"""What can be told of CUDA graphs without a GPU; see also tests/gpu."""

from typing import Any

import pytest
import torch

from mtrain.runtime.compilation import is_failed_compilation


def test_a_failed_compilation_is_told_from_other_errors() -> None:
    def backend(*_: Any) -> Any:
        raise OSError("no C compiler")

    with pytest.raises(RuntimeError) as failed:
        torch.compile(torch.sin, backend=backend)(torch.ones(2))
    assert is_failed_compilation(failed.value)
    with pytest.raises(RuntimeError) as other:
        torch.ones(2) @ torch.ones(3)
    assert not is_failed_compilation(other.value)

"""A compilation that fails is told from other errors; see also tests/gpu."""

from typing import Any

import pytest
import torch

from mtrain.errors import UserError
from mtrain.runtime.compilation import explained_compilation


def test_a_failed_compilation_is_told_from_other_errors() -> None:
    def backend(*_: Any) -> Any:
        raise OSError("there is no C compiler")

    with (
        pytest.raises(UserError, match=r"torch cannot compile the layers: .*no C compiler") as told,
        explained_compilation("the layers", "install one"),
    ):
        torch.compile(torch.sin, backend=backend)(torch.ones(2))
    assert told.value.hint == "install one"
    with (
        pytest.raises(RuntimeError, match="size"),
        explained_compilation("the layers", "install one"),
    ):
        torch.ones(2) @ torch.ones(3)

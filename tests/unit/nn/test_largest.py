"""The largest logit of each row: the same as torch.max's, for any size."""

import pytest
import torch
from torch import Tensor

from mtrain.nn.largest import largest


def logits_of(vocab_size: int) -> Tensor:
    return torch.randn(63, vocab_size, generator=torch.Generator().manual_seed(vocab_size))


@pytest.mark.parametrize("vocab_size", [1, 3, 63, 64, 65, 319, 2560, 8191])
def test_the_largest_is_that_of_max(vocab_size: int) -> None:
    logits = logits_of(vocab_size)
    logits[0, -1] = logits[1, 0] = 9.0
    values, places = largest(logits)
    expected = logits.max(dim=1)
    assert torch.equal(values, expected.values)
    assert torch.equal(places, expected.indices)


@pytest.mark.parametrize("vocab_size", [50, 319, 2560])
def test_where_something_is_no_number_the_largest_is_none(vocab_size: int) -> None:
    logits = logits_of(vocab_size)
    logits[1, 3] = logits[2, -1] = float("nan")
    logits[3] = float("-inf")
    values, places = largest(logits)
    assert values[1:4].isfinite().tolist() == [False] * 3
    assert places.max() < vocab_size
    assert values[4:].isfinite().all()

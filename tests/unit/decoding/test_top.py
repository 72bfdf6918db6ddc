"""The largest logits: the same as torch.topk's, for any size."""

import pytest
import torch

from mtrain.decoding.top import top_logits


@pytest.mark.parametrize("count", [1, 2, 10])
@pytest.mark.parametrize("vocab_size", [3, 64, 100, 256, 319, 1000, 2559, 2560, 2561, 8000, 8191])
def test_top_logits_are_those_of_topk(vocab_size: int, count: int) -> None:
    logits = torch.randn(7, vocab_size, generator=torch.Generator().manual_seed(vocab_size))
    values, ids = top_logits(logits, count)
    expected = logits.topk(min(count, vocab_size), dim=1)
    assert torch.equal(values, expected.values)
    assert torch.equal(ids, expected.indices)


@pytest.mark.parametrize("vocab_size", [1000, 2561])
def test_the_best_may_stand_side_by_side(vocab_size: int) -> None:
    """All that are wanted in one chunk, the last and incomplete one."""
    logits = torch.zeros(1, vocab_size)
    logits[0, -3:] = torch.tensor([1.0, 3.0, 2.0])
    values, ids = top_logits(logits, 3)
    assert values.tolist() == [[3.0, 2.0, 1.0]]
    assert ids.tolist() == [[vocab_size - 2, vocab_size - 1, vocab_size - 3]]


def test_equal_logits_give_distinct_ids() -> None:
    values, ids = top_logits(torch.ones(2, 3000), 5)
    assert torch.equal(values, torch.ones(2, 5))
    assert all(len(set(row)) == 5 and max(row) < 3000 for row in ids.tolist())


@pytest.mark.parametrize("nothing", [float("-inf"), float("nan")])
def test_ids_are_of_the_vocabulary_where_there_is_nothing_to_choose(nothing: float) -> None:
    _, ids = top_logits(torch.full((3, 2999), nothing), 10)
    assert int(ids.max()) < 2999

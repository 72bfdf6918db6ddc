"""The best sums of each sentence: the same as torch.topk's over all of them, for any size."""

import pytest
import torch

from mtrain.decoding.top import top_sums


def sums_of(num_rows: int, vocab_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(vocab_size)
    return torch.randn(7, num_rows, vocab_size, generator=random), torch.randn(7, num_rows)


@pytest.mark.parametrize("count", [1, 2, 10])
@pytest.mark.parametrize("num_rows", [1, 2, 5])
@pytest.mark.parametrize("vocab_size", [3, 63, 64, 100, 319, 512, 1000, 2559, 2560, 2561, 8191])
def test_top_sums_are_those_of_topk(vocab_size: int, num_rows: int, count: int) -> None:
    gains, scores = sums_of(num_rows, vocab_size)
    values, places = top_sums(gains, scores, count)
    flat = (gains + scores[:, :, None]).flatten(1)
    expected = flat.topk(min(count, flat.shape[1]), dim=1)
    assert torch.equal(values, expected.values)
    assert torch.equal(places, expected.indices)


@pytest.mark.parametrize("vocab_size", [1000, 2561])
def test_the_best_may_stand_side_by_side(vocab_size: int) -> None:
    """All that are wanted in one chunk, the last and incomplete one of the second hypothesis."""
    gains = torch.zeros(1, 2, vocab_size)
    gains[0, 1, -3:] = torch.tensor([1.0, 3.0, 2.0])
    values, places = top_sums(gains, torch.zeros(1, 2), 3)
    assert values.tolist() == [[3.0, 2.0, 1.0]]
    last = 2 * vocab_size
    assert places.tolist() == [[last - 2, last - 1, last - 3]]


def test_equal_sums_have_distinct_places() -> None:
    values, places = top_sums(torch.ones(2, 3, 3000), torch.zeros(2, 3), 5)
    assert torch.equal(values, torch.ones(2, 5))
    assert all(len(set(row)) == 5 and max(row) < 9000 for row in places.tolist())


@pytest.mark.parametrize("vocab_size", [50, 2999, 3008])
@pytest.mark.parametrize("nothing", [float("-inf"), float("nan")])
def test_what_is_no_number_comes_last(nothing: float, vocab_size: int) -> None:
    """As a score, as a row of gains; places are of the vocabulary all the same."""
    gains, scores = sums_of(5, vocab_size)
    scores[0] = nothing
    gains[1] = nothing
    gains[2, 0] = nothing
    gains[3, :, ::2] = float("-inf")
    scores[4, 1:] = nothing
    values, places = top_sums(gains, scores, 10)
    assert int(places.max()) < 5 * vocab_size
    assert not values.isnan().any()
    assert (values[:2] == float("-inf")).all()
    flat = (gains + scores[:, :, None]).flatten(1)
    flat = torch.where(flat.isnan(), float("-inf"), flat)
    assert torch.equal(values, flat.topk(10, dim=1).values)

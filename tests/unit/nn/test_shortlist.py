"""The largest product by a shortlist: the same as of all products, however close the next is."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mtrain.nn import shortlist as shortlist_module
from mtrain.nn.largest import largest
from mtrain.nn.shortlist import Shortlist, can_shortlist

pytestmark = pytest.mark.skipif(not can_shortlist(), reason="no int8 products here, or inexact")


def random_of(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def found_by(matrix: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    found = Shortlist(matrix).largest(features)
    assert found is not None
    return found


@pytest.mark.parametrize("width", [1, 16, 100, 256])
@pytest.mark.parametrize("vocab_size", [1, 3, 63, 64, 65, 1000, 8000])
def test_it_is_the_largest_of_all_products(vocab_size: int, width: int) -> None:
    """Of words and vectors of different lengths, and with some numbers large alone."""
    matrix = random_of(vocab_size, width) * (1 + random_of(vocab_size, 1, seed=2).sigmoid())
    features = random_of(200, width, seed=3) * random_of(200, 1, seed=4).exp()
    features[:20, 0] *= 10
    products = features.double() @ matrix.double().T
    best, tokens = found_by(matrix, features)
    expected = products.max(dim=1).values
    torch.testing.assert_close(best.double(), expected, atol=1e-4, rtol=1e-5)
    chosen = products.gather(1, tokens[:, None])[:, 0]
    torch.testing.assert_close(chosen, expected, atol=1e-4, rtol=1e-5)


def test_words_are_told_apart_that_round_to_the_same() -> None:
    """Each word has a twin that differs by less than a step of int8, for better or worse."""
    matrix = random_of(500, 32)
    twins = matrix + 1e-3 * random_of(500, 32, seed=2)
    both = torch.stack([matrix, twins], dim=1).flatten(0, 1)
    features = random_of(300, 32, seed=3)
    rounded, scales = shortlist_module._round(both)
    expected = (features @ both.T).argmax(dim=1)
    by_rounding_alone = (features @ (rounded * scales).T).argmax(dim=1)
    assert (by_rounding_alone != expected).sum() > 50
    assert torch.equal(found_by(both, features)[1], expected)


def test_of_equal_words_it_is_the_first() -> None:
    matrix = random_of(300, 16).repeat(3, 1)
    _, tokens = found_by(matrix, random_of(40, 16, seed=2))
    assert tokens.max() < 300
    assert len(set(tokens.tolist())) > 5


def test_no_number_is_the_largest_where_there_are_none() -> None:
    """Neither of a vector with something else in it, nor of any where a word has."""
    matrix, features = random_of(100, 16), random_of(6, 16, seed=2)
    features[1, 3], features[2, 5] = float("nan"), float("inf")
    best, tokens = found_by(matrix, features)
    assert best.isfinite().tolist() == [True, False, False, True, True, True]
    assert tokens.max() < 100
    matrix[7, 7] = float("nan")
    best, tokens = found_by(matrix, features)
    assert not best.isfinite().any()
    assert tokens.max() < 100


def test_where_all_words_are_almost_equal_it_leaves_them() -> None:
    matrix, features = random_of(3000, 16), random_of(9, 16, seed=2)
    assert Shortlist(matrix).largest(features) is not None
    assert Shortlist(torch.zeros_like(matrix)).largest(features) is None
    assert Shortlist(matrix).largest(torch.zeros_like(features)) is None


def test_few_products_are_computed_in_full() -> None:
    """The bound is of use: of words as long as a model's, few can be the largest."""
    matrix, features = random_of(8000, 256) / 16, random_of(500, 256, seed=2)
    features += 6 * matrix[:500]  # each is for one word more than for others
    rows, _ = Shortlist(matrix)._candidates(features)
    assert len(rows) < 1.5 * len(features)
    assert torch.equal(found_by(matrix, features)[1], largest(features @ matrix.T)[1])


def test_products_that_lose_something_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    multiply = shortlist_module._multiply

    def saturating(*arguments: Any) -> Tensor:
        return multiply(*arguments).clamp(max=2.0**15 - 1)

    monkeypatch.setattr(shortlist_module, "_multiply", saturating)
    assert not can_shortlist()


@pytest.mark.parametrize("error", [AttributeError, RuntimeError])
def test_where_int8_is_not_multiplied_there_is_none(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Tensor:
        raise error

    monkeypatch.setattr(shortlist_module, "_pack", refuse)
    assert not can_shortlist()

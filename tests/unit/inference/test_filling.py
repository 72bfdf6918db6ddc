"""What `fill` answers: for any line alone or among others, long or short, in readable words."""

from pathlib import Path

import pytest
import torch

from mtrain.errors import UserError
from mtrain.inference.filling import FilledLine, Filler
from mtrain.runtime.precision import choose_precision
from tests.text_task import prepare_text_task, ready_bert, tokenizer_of

LINES = [
    b"3 [MASK] 1",
    b"",
    b"[MASK] one two three [MASK]",
    b"no mask",
    b"un[MASK]",
    b"\xff [MASK]",
]


@pytest.fixture(scope="module")
def filler(tmp_path_factory: pytest.TempPathFactory) -> Filler:
    """A filler with random weights: what it says depends on every token."""
    return new_filler(prepare_text_task(tmp_path_factory.mktemp("task"), "text"))


def new_filler(task: Path, batch_tokens: int = 60) -> Filler:
    tokenizer = tokenizer_of(task)
    return Filler(ready_bert(), tokenizer, choose_precision("fp32", "cpu"), batch_tokens)


def probabilities(line: FilledLine) -> torch.Tensor:
    return torch.tensor([[guess.probability for guess in guesses] for guesses in line.masks])


def test_each_line_is_filled_as_alone_and_one_without_masks_has_none(filler: Filler) -> None:
    done: list[int] = []
    filled = filler.fill(LINES, 4, done.append)
    assert sum(done) == len(LINES)
    assert [len(line.masks) for line in filled] == [1, 0, 2, 0, 1, 1]
    assert [line.is_valid_text for line in filled] == [True] * 5 + [False]
    for raw, line in zip(LINES, filled, strict=True):
        (alone,) = filler.fill([raw], 4)
        for together, single in zip(line.masks, alone.masks, strict=True):
            assert [guess.word for guess in together] == [guess.word for guess in single]
        torch.testing.assert_close(probabilities(line), probabilities(alone), atol=1e-5, rtol=1e-3)


def test_all_words_share_the_probability_with_the_marks(filler: Filler) -> None:
    num_words = 335  # of 340, without <pad>, <unk>, <s>, </s> and the mask
    (line,) = filler.fill([b"3 [MASK] 1"], num_words)
    (shares,) = probabilities(line)
    assert torch.equal(shares, shares.sort(descending=True).values)
    assert 0.9 < shares.sum() < 1
    words = [guess.word for guess in line.masks[0]]
    assert len(set(words)) == num_words
    assert not {"<pad>", "<unk>", "<s>", "</s>", "[MASK]", ""} & set(words)
    assert {"three", "<0x0A>", "<0xE2>", "▁"} <= set(words)
    assert any(word.startswith("##") for word in words)
    assert all(word.isprintable() for word in words)
    for top in (0, num_words + 1):
        with pytest.raises(UserError, match="335 words to choose from"):
            filler.fill([b"[MASK]"], top)


def test_every_mask_of_a_line_that_is_too_long_is_filled_from_what_is_around_it(
    filler: Filler,
) -> None:
    words = [f"{number % 10}" for number in range(700)]
    for place in range(0, 700, 7):
        words[place] = "[MASK]"
    line, short = filler.fill([" ".join(words).encode(), b"3 [MASK] 1"], 2)
    assert len(line.masks) == 100
    assert line.is_long
    assert not short.is_long
    start = " ".join(words[: filler.max_ids]).encode()
    (alone,) = filler.fill([start], 2)
    assert not alone.is_long
    first = slice(0, filler.max_ids // 2 // 7)  # what stands in the first part's first half
    torch.testing.assert_close(
        probabilities(line)[first], probabilities(alone)[first], atol=1e-5, rtol=1e-3
    )
    changed = list(words)
    changed[348], changed[352] = "9", "9"  # beside the mask at 350
    (other,) = filler.fill([" ".join(changed).encode()], 2)
    differs = (probabilities(other) != probabilities(line)).any(dim=1)
    assert differs[50]
    assert not differs[:20].any()

"""The comparison of a BERT with what another program makes of it notices every difference."""

from dataclasses import replace

import pytest
import torch

from mtrain.errors import UserError
from mtrain.exchange.masked_comparison import MaskedReplay, MaskedSample, compare_masked

LINES = [f"line {number}" for number in range(200)]
IDS = [[number, 3] for number in range(200)]
STATES = [torch.zeros(2, 4)] * 200
FOUND = [torch.full((1, 5), -2.0)] * 200
SAMPLE = MaskedSample(LINES, IDS, IDS, [[0]] * 200, [[[1, 2, 3, 4, 5]]] * 200, STATES, FOUND)
SAME = MaskedReplay("other 1.0", IDS, STATES, FOUND)


def test_what_is_the_same_is_told_with_its_differences() -> None:
    near = [state + 5e-5 for state in STATES]
    told = compare_masked(SAMPLE, replace(SAME, states=near))
    assert told == (
        "other 1.0 in fp32 on 200 lines: ids are the same; hidden states differ by 5e-05 at most, "
        "log probabilities of 200 masked tokens by 0"
    )
    assert "log prob" not in compare_masked(SAMPLE, replace(SAME, log_probabilities=[]))


@pytest.mark.parametrize("value", [2e-4, float("nan")])
@pytest.mark.parametrize("name", ["states", "log_probabilities"])
def test_one_number_that_differs_is_an_error(name: str, value: float) -> None:
    tensors = [tensor.clone() for tensor in getattr(SAME, name)]
    tensors[-1][-1, -1] += value
    with pytest.raises(UserError, match=r"other 1\.0 does not compute what the model does"):
        compare_masked(SAMPLE, replace(SAME, **{name: tensors}))


def test_a_few_lines_may_be_split_in_another_way(capsys: pytest.CaptureFixture[str]) -> None:
    for count, is_much in ((2, False), (3, True)):
        replay = replace(SAME, ids=[[9, 3]] * count + IDS[count:])
        if is_much:
            with pytest.raises(UserError, match=r"'line 0' has the ids \[9, 3\] instead of \[0, 3"):
                compare_masked(SAMPLE, replay)
        else:
            assert "ids of 2 lines differ" in compare_masked(SAMPLE, replay)
            assert "splits 2 of 200 lines in another way" in capsys.readouterr().err

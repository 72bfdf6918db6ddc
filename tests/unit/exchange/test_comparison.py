"""What counts as the same translation by another program."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mtrain.errors import UserError
from mtrain.exchange.comparison import Comparison, Output, Replay, Sample, log_probabilities
from mtrain.models import TranslationModel
from mtrain.text.tokenizer import TokenizerPair
from tests.in_process import open_setup, small_config

SOURCE, FIRST, TWIN, OTHER = [10, 11], 20, 21, 22


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, small_task: Path) -> Comparison:
    """A comparison of one line whose translation is FIRST; the model cannot tell TWIN from it."""
    config = small_config(small_task, tmp_path_factory.mktemp("no-run") / "run")
    model = open_setup(config).state.model.eval()
    assert isinstance(model, TranslationModel)
    with torch.no_grad():
        model.output.weight[TWIN] = model.output.weight[FIRST]
        model.output.weight[OTHER] = -model.output.weight[FIRST]
    tokenizers = TokenizerPair.load(config.data_path / "tokenizer")
    outputs = [Output([FIRST], "x")]
    sample = Sample(["x"], [SOURCE], outputs, outputs)
    scores = log_probabilities(model, tokenizers, [(SOURCE, [FIRST])])
    replay = Replay("the program", [SOURCE], outputs, outputs, scores)
    return Comparison(model, tokenizers, sample, replay, 1.0)


def test_equal_ids_and_text_are_alike(compared: Comparison) -> None:
    assert compared.report().startswith(
        "the program in fp32 on 1 lines: greedy search 1 alike, 0 of equal score, 0 others; "
        "beam search 1 alike, 0 of equal score, 0 others; log probabilities differ by 0"
    )


@pytest.mark.parametrize("search", ["greedy", "beam"])
def test_a_token_of_equal_probability_is_a_tie(compared: Comparison, search: str) -> None:
    tied = replace(compared.replay, **{search: [Output([TWIN], "y")]})
    assert f"{search} search 0 alike, 1 of equal score" in replace(compared, replay=tied).report()


def test_another_greedy_output_is_an_error_but_in_eight_bits(compared: Comparison) -> None:
    unlike = replace(compared, replay=replace(compared.replay, greedy=[Output([OTHER], "z")]))
    with pytest.raises(UserError, match="'x' becomes 'z' instead of 'x' by greedy search"):
        unlike.report()
    assert "greedy search 0 alike, 0 of equal score, 1 others" in (
        replace(unlike, weights="int8").report()
    )


def test_another_output_of_beam_search_is_counted(compared: Comparison) -> None:
    unlike = replace(compared.replay, beam=[Output([OTHER], "z")])
    assert "beam search 0 alike, 0 of equal score, 1 others" in (
        replace(compared, replay=unlike).report()
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sources": [[10, 12]]}, "'x' has the ids"),
        ({"greedy": [Output([FIRST], "X")]}, "it writes 'X' instead of 'x'"),
        ({"log_probabilities": [[-9.0, -9.0]]}, "log probabilities differ by"),
    ],
)
def test_other_ids_text_or_probabilities_are_errors(
    compared: Comparison, change: dict[str, Any], says: str
) -> None:
    changed = replace(compared.replay, **change)
    with pytest.raises(UserError, match="the program does not compute") as refused:
        replace(compared, replay=changed).report()
    assert says in str(refused.value)

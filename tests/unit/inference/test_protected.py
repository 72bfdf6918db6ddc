"""Every architecture that translates gives protected spans back, or counts them as lost."""

from pathlib import Path
from typing import Any

import pytest

import mtrain
from mtrain.commands.prepare import prepare
from mtrain.commands.train import train
from mtrain.text.protection import RESERVED
from tests.in_process import SMALL_MODEL, small_config

LINES = ["{a} 1", "1 2", "<p4> 3 {b} {c}", "7 " * 60 + "{last}", ""]
SMALL = {key: value for key, value in SMALL_MODEL.items() if "coder_layers" not in key}


@pytest.mark.parametrize(
    "model",
    [
        SMALL_MODEL,
        {"type": "rnn", "embedding_dim": 16, "hidden_dim": 16, "max_positions": 40},
        {"type": "decoder_only", **SMALL, "decoder_layers": 1},
    ],
    ids=["transformer", "rnn", "decoder_only"],
)
def test_a_model_that_has_learnt_nothing_loses_spans_and_says_so(
    model: dict[str, Any], small_task: Path, tmp_path: Path
) -> None:
    data = small_config(small_task, tmp_path).data.model_dump(exclude_defaults=True)
    config = small_config(
        small_task, tmp_path / "run", {"max_updates": 2, "valid_every": 2}, model,
        data={**data, "protect": ["placeholders"]}, data_dir=tmp_path / "data",
    )  # fmt: skip
    prepare(config)
    train(config)
    for options in ({}, {"method": "sample", "temperature": 3.0, "n_best": 2}):
        found = mtrain.load(tmp_path / "run").translate(LINES, **options)
        for line, each in zip(LINES, found, strict=True):
            spans = [word for word in line.split() if word[0] in "{<"]
            assert each.num_lost == sum(span not in each.text for span in spans)
            assert all(span in spans for span in RESERVED.findall(" ".join(each.texts)))

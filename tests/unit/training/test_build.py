"""What trains is built for its device: on a GPU packed batches, or the reason why not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtrain.data.folders import DataFolder
from mtrain.data.store import VectorColumn
from mtrain.models import build_model
from mtrain.training.build import _maker
from tests.in_process import SMALL_MODEL, small_config

READER = {**SMALL_MODEL, "features": {"run": "bert"}}
RNN = {"type": "rnn", "embedding_dim": 8, "hidden_dim": 8, "max_positions": 40}


@pytest.mark.parametrize(
    ("model", "training", "reason"),
    [
        (SMALL_MODEL, {}, ""),
        ({"type": "decoder_only", "d_model": 16, "num_heads": 2, "max_positions": 40}, {}, ""),
        (RNN, {}, "model.type: rnn"),
        (READER, {}, "model.features"),
        (SMALL_MODEL, {"subword_sampling": 0.1}, "training.subword_sampling"),
        (RNN, {"subword_sampling": 0.1}, "model.type: rnn and training.subword_sampling"),
    ],
)
def test_a_gpu_gets_packed_batches_or_a_reason(
    model: dict[str, Any],
    training: dict[str, Any],
    reason: str,
    small_task: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = small_config(small_task, tmp_path / "run", training, model)
    data = DataFolder(config.data_path)
    tokenizers = data.tokenizers()
    built = build_model(config, tokenizers.source.vocab_size, tokenizers.target.vocab_size, 8)
    given = config, data.store("train"), tokenizers, built
    assert _maker(*given, on_gpu=True).kind == ("padded" if reason else "packed")
    said = capsys.readouterr().err
    assert (f"{reason}: no packed sequences" in said) if reason else not said
    assert _maker(*given, on_gpu=False).kind == "padded"
    assert capsys.readouterr().err == ""


def test_packed_batches_have_no_teachers_distributions(
    small_task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_config(small_task, tmp_path / "run")
    data = DataFolder(config.data_path)
    tokenizers, store = data.tokenizers(), data.store("train")
    places = store.target.offsets + np.arange(len(store) + 1)
    column = VectorColumn(np.zeros((places[-1], 2), np.uint16), places)
    store.teacher = (column, column)
    built = build_model(config, tokenizers.source.vocab_size, tokenizers.target.vocab_size)
    assert _maker(config, store, tokenizers, built, on_gpu=True).kind == "padded"
    assert "distillation.weight: no packed sequences" in capsys.readouterr().err

"""A new objective is a file and a line of `OBJECTIVES`, and the name that `objective` may have.

The one registered here keeps the features small besides. Nothing else of mtrain knows of it.
"""

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import create_model

from mtrain.commands.train import train
from mtrain.config import Config
from mtrain.config.training import TrainingConfig
from mtrain.data.batch import PairBatch
from mtrain.models.base import NO_RECORD, AttentionRecord, Model
from mtrain.training import objectives
from mtrain.training.log import read_metrics
from mtrain.training.objectives import LossSums, Objective
from mtrain.training.objectives.prediction import PredictionObjective
from tests.in_process import small_config

TrainingWithSmall = create_model(
    "TrainingWithSmall",
    __base__=TrainingConfig,
    objective=(Literal["translation", "small_features"], "translation"),
)
ConfigWithSmall = create_model(
    "ConfigWithSmall", __base__=Config, training=(TrainingWithSmall, TrainingWithSmall())
)


class SmallFeatures(Objective):
    """Translation, and features near zero."""

    def __init__(self, config: Config, precision: Any) -> None:
        self._translation = PredictionObjective(config, precision)

    def __call__(
        self, model: Model, batch: PairBatch, record: AttentionRecord = NO_RECORD
    ) -> LossSums:
        sums = self._translation(model, batch, record)
        squares = model(batch).features.float().square().sum()
        return LossSums(sums.loss + 0.1 * squares, sums.nll)


def test_one_file_and_one_line_make_an_objective(
    small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is trained, validated, saved and resumed like any other, by threads that share a batch."""
    monkeypatch.setattr("mtrain.config.load.Config", ConfigWithSmall)
    monkeypatch.setitem(objectives.OBJECTIVES, "small_features", SmallFeatures)
    losses = {}
    for name in ("translation", "small_features"):
        keys = small_config(small_task, tmp_path / name).model_dump(mode="json")
        keys["training"]["objective"] = name
        config = ConfigWithSmall.model_validate(keys)
        assert "best by dev bleu" in train(config)
        more = config.training.model_copy(update={"max_updates": 16})
        train(config.model_copy(update={"training": more}))
        events = read_metrics(config.run_dir / "metrics.jsonl")
        losses[name] = [event["loss"] for event in events if event["kind"] == "train"]
    assert len(losses["small_features"]) == 16
    assert losses["small_features"][0] > losses["translation"][0] + 1

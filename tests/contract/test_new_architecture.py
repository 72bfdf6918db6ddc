"""What mtrain/models/README.md promises: a new architecture is a section, a file and a line.

The one registered here predicts each target word from the one before it and from the mean of the
source's embeddings. Nothing else of mtrain knows of it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import torch
from pydantic import create_model
from torch import Tensor, nn

from mtrain import models
from mtrain.commands.train import train
from mtrain.config import Config
from mtrain.config.model import ModelSection
from mtrain.data.batch import PairBatch
from mtrain.data.folders import RunFolder
from mtrain.inference.load import load_run
from mtrain.models.base import NO_RECORD, AttentionRecord, Head, State, TranslationModel
from mtrain.nn.feature_attention import Features
from mtrain.nn.output import OutputLayer
from tests.in_process import small_config


class BagConfig(ModelSection):
    """The section of its keys."""

    type: Literal["bag"] = "bag"
    """architecture"""
    width: int = 16
    """of everything"""


# the configuration, had its `model` one more kind
ConfigWithBag = create_model("ConfigWithBag", __base__=Config, model=(BagConfig, BagConfig()))


@dataclass
class BagState(State):
    """The mean source of each sentence."""

    mean: Tensor  # (B,1,D)

    def reorder(self, hypotheses: Tensor) -> "BagState":
        return self

    def keep(self, sentences: Tensor) -> "BagState":
        return BagState(self.mean[sentences])


class Bag(TranslationModel):
    """The whole architecture."""

    def __init__(self, config: BagConfig, source_vocab: int, target_vocab: int) -> None:
        super().__init__()
        self.max_positions = config.max_positions
        self.source_heads = (0, 0)
        self.export_limits = {}
        self.source = nn.Embedding(source_vocab, config.width)
        self.target = nn.Embedding(target_vocab, config.width)
        self.join = nn.Linear(2 * config.width, config.width)
        self.output = OutputLayer(config.width, target_vocab, bias=True)

    def features(self, batch: PairBatch, record: AttentionRecord = NO_RECORD) -> Tensor:
        state = self.encode(batch.source, batch.source_lengths)
        return self._features(batch.target_in, state)

    def encode(
        self,
        source: Tensor,
        source_lengths: Tensor,
        watched: Head | None = None,
        features: Features | None = None,
    ) -> BagState:
        is_real = torch.arange(source.shape[1]) < source_lengths[:, None]
        words = self.source(source) * is_real[:, :, None]
        return BagState(words.sum(1, keepdim=True) / source_lengths[:, None, None])

    def step_features(self, tokens: Tensor, state: State) -> tuple[Tensor, BagState]:
        assert isinstance(state, BagState)
        return self._features(tokens, state), state

    def _features(self, tokens: Tensor, state: BagState) -> Tensor:
        words = self.target(tokens)
        joined: Tensor = self.join(torch.cat([words, state.mean.expand_as(words)], dim=-1))
        return joined.tanh()


def test_one_section_one_file_and_one_line_make_an_architecture(
    small_task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is trained, validated, saved, resumed and translated with like any other."""
    monkeypatch.setattr("mtrain.config.load.Config", ConfigWithBag)  # the section
    monkeypatch.setitem(models.MODELS, "bag", Bag)  # the line
    keys = small_config(small_task, tmp_path / "run").model_dump(mode="json") | {
        "model": {"type": "bag", "max_positions": 40}
    }
    config = ConfigWithBag.model_validate(keys)
    assert "best by dev bleu" in train(config)
    more = config.training.model_copy(update={"max_updates": 16})
    train(config.model_copy(update={"training": more}))
    run = RunFolder.open(tmp_path / "run")
    assert run.checkpoints.joinpath("update-00000016").is_dir()
    (translation,) = load_run(run, run.config(), None).translator().translate([b"1 2 3"])
    assert translation.texts[0] or translation.is_cut_off

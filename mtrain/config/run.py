"""A run: all sections together, and what they must agree on.

All sections are frozen: nothing changes a configuration after it is loaded.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, model_validator

from mtrain.config.data import AlignedPairFiles, DataConfig, HubDataset, TableFile
from mtrain.config.decoding import DecodingConfig
from mtrain.config.model import MODEL_SECTIONS, ModelConfig, TransformerConfig
from mtrain.config.section import HomePath, Section
from mtrain.config.tokenizer import SidePaths, TokenizerConfig
from mtrain.config.training import TrainingConfig


class Config(Section):
    """A run, whole."""

    run_dir: HomePath
    """everything that training leaves and translating needs; can be moved"""
    data_dir: HomePath | None = None
    """what `prepare` writes; several runs may share it. By default RUN_DIR/data"""
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] = 1
    """of initial weights, order of the data, dropout and sampling"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto is the GPU where there is one"""
    data: DataConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = TransformerConfig()
    """an architecture by its `type`, with its own keys"""
    training: TrainingConfig = TrainingConfig()
    decoding: DecodingConfig = DecodingConfig()

    @model_validator(mode="after")
    def _parts_fit(self) -> "Config":
        if self.run_dir.is_relative_to(self.data_path):
            raise ValueError(
                f"data_dir {self.data_path} holds run_dir {self.run_dir}: `prepare` replaces "
                "data_dir as a whole, give it a folder of its own"
            )
        if self.model.tie_embeddings == "all" and not self.shares_vocabulary:
            raise ValueError(
                "model.tie_embeddings: all needs one vocabulary; use decoder, or a shared tokenizer"
            )
        if getattr(self.model, "source_loss", False) and not self.shares_vocabulary:
            raise ValueError("model.source_loss needs one vocabulary; use a shared tokenizer")
        if self.data.filters.max_tokens > self.model.max_positions:
            raise ValueError(
                f"data.filters.max_tokens {self.data.filters.max_tokens} is over "
                f"model.max_positions {self.model.max_positions}: the model could not read them"
            )
        if self.training.subword_sampling and self.data.has_alignments:
            raise ValueError(
                "training.subword_sampling cannot be used with alignments in data.train: "
                "their links are of the tokens that `prepare` wrote"
            )
        return self

    @property
    def shares_vocabulary(self) -> bool:
        """Whether source and target ids mean the same."""
        return self.tokenizer.shared and not isinstance(self.tokenizer.path, SidePaths)

    @property
    def data_path(self) -> Path:
        """Where the data folder is."""
        return self.data_dir or self.run_dir / "data"


# The tags of unions, by which an error says which member of a union it was in.
UNION_MEMBERS: dict[str, type[BaseModel]] = {
    "<pair>": AlignedPairFiles,
    "<table>": TableFile,
    "<hub>": HubDataset,
    "<sides>": SidePaths,
    **MODEL_SECTIONS,
}

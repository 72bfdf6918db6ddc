"""The whole configuration of a run, with checks across sections.

All sections are frozen: a loaded configuration never changes.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationInfo, field_validator, model_validator

from mtrain.config.data import AlignedPairFiles, DataConfig, HubDataset, TableFile
from mtrain.config.decoding import DecodingConfig
from mtrain.config.model import (
    MODEL_SECTIONS,
    BaseRun,
    ExportFormat,
    ModelConfig,
    TransformerConfig,
    cannot_hold,
)
from mtrain.config.section import HomePath, Section
from mtrain.config.tokenizer import SidePaths, TokenizerConfig
from mtrain.config.training import TrainingConfig


class Config(Section):
    """The configuration of a run."""

    run_dir: HomePath
    """output folder of training, with everything that `translate` needs; it can be moved"""
    data_dir: HomePath | None = None
    """output folder of `prepare`; several runs may share it. By default RUN_DIR/data"""
    seed: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)] = 1
    """random seed of initial weights, data order, dropout and sampling"""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto uses a GPU if there is one, else the CPU"""
    data: DataConfig
    tokenizer: TokenizerConfig = TokenizerConfig()
    model: ModelConfig = TransformerConfig()
    """the model; `type` selects the architecture, which decides the other keys"""
    export_to: tuple[ExportFormat, ...] = ()
    """formats that the model must fit: an option that one of them cannot hold is an error"""
    training: TrainingConfig = TrainingConfig()
    decoding: DecodingConfig = DecodingConfig()

    @field_validator("export_to")
    @classmethod
    def _model_fits_the_formats(
        cls, formats: tuple[ExportFormat, ...], given: ValidationInfo
    ) -> tuple[ExportFormat, ...]:
        for section in ("model", "tokenizer"):
            if section in given.data:  # otherwise it is itself in error
                limits: dict[str, str] = given.data[section].export_limits
                for name in formats:
                    if name in limits:
                        raise ValueError(cannot_hold(name, limits[name]))
        return formats

    @model_validator(mode="after")
    def _parts_fit(self) -> "Config":
        if self.run_dir.is_relative_to(self.data_path):
            raise ValueError(
                f"data_dir {self.data_path} holds run_dir {self.run_dir}: `prepare` replaces "
                "data_dir as a whole, give it a folder of its own"
            )
        if self.model.tie_embeddings == "all" and not (
            self.shares_vocabulary or isinstance(self.tokenizer.path, SidePaths)
        ):
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
        if self.data.has_alignments and (
            self.tokenizer.source_prefix or self.tokenizer.target_prefix
        ):
            raise ValueError(
                "tokenizer.source_prefix and target_prefix cannot be used with alignments in "
                "data.train"
            )
        if self.training.subword_sampling and self.data.has_alignments:
            raise ValueError(
                "training.subword_sampling cannot be used with alignments in data.train: "
                "their links are of the tokens that `prepare` wrote"
            )
        return self

    @property
    def shares_vocabulary(self) -> bool:
        """Whether source and target use the same vocabulary."""
        return self.tokenizer.shared and not isinstance(self.tokenizer.path, SidePaths)

    @property
    def data_path(self) -> Path:
        """Path of the data folder."""
        return self.data_dir or self.run_dir / "data"


# The members of unions by the tags that pydantic's errors name.
UNION_MEMBERS: dict[str, type[BaseModel]] = {
    "<pair>": AlignedPairFiles,
    "<table>": TableFile,
    "<hub>": HubDataset,
    "<sides>": SidePaths,
    "<base>": BaseRun,
    **MODEL_SECTIONS,
}

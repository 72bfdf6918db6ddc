"""The section `model.encoder_attention`: which tokens of a source attend to which."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mtrain.config.section import PositiveInt, Section

Count = Annotated[int, Field(ge=0, le=1 << 20)]


class EncoderAttention(Section):
    """Self-attention of an encoder: full, or block-sparse for long texts (Zaheer et al. 2020)."""

    type: Literal["full", "block_sparse"] = "full"
    """every token attends to all (full), or each block of tokens to some blocks (block_sparse)"""
    block_size: PositiveInt = 64
    """tokens of a block"""
    window_blocks: PositiveInt = 3
    """blocks around its own that a block attends to, itself among them; odd"""
    global_blocks: Count = 2
    """blocks at both ends of a text that attend to all, and all to them"""
    random_blocks: Count = 3
    """further blocks that a block attends to, drawn once for each layer and length"""

    @model_validator(mode="after")
    def _window_has_a_middle(self) -> "EncoderAttention":
        if self.window_blocks % 2 == 0:
            raise ValueError(
                f"window_blocks {self.window_blocks} is even: as many stand before a block as "
                f"after it; use {self.window_blocks - 1} or {self.window_blocks + 1}"
            )
        return self

    @model_validator(mode="after")
    def _sizes_are_of_blocks(self) -> "EncoderAttention":
        chosen = [name for name, field in type(self).model_fields.items()
                  if name != "type" and getattr(self, name) != field.default]  # fmt: skip
        if chosen and not self.is_sparse:
            raise ValueError(
                f"type: full has no blocks, and {' and '.join(chosen)} would change nothing: add "
                "type: block_sparse, or leave them out"
            )
        return self

    @property
    def is_sparse(self) -> bool:
        """Whether not every token attends to all."""
        return self.type == "block_sparse"

    @property
    def num_attended(self) -> int:
        """The blocks that a block attends to; a text of no more blocks has full attention."""
        return self.window_blocks + self.global_blocks + self.random_blocks

    @property
    def pattern(self) -> dict[str, int] | None:
        """The numbers that make the pattern, if it is sparse."""
        return self.model_dump(exclude={"type"}) if self.is_sparse else None

    def full_up_to(self, max_positions: int) -> int:
        """Return the length in tokens up to which all tokens attend to all."""
        covered = self.num_attended * self.block_size
        return min(covered, max_positions) if self.is_sparse else max_positions

    def unlike_big_bird(self, max_positions: int) -> dict[str, bool]:
        """Return what a block-sparse BERT may be that BigBird of `transformers` is not."""
        found = {
            f"window_blocks: {self.window_blocks} (BigBird has 3)": self.window_blocks != 3,
            f"global_blocks: {self.global_blocks} (BigBird has 2)": self.global_blocks != 2,
            "random_blocks: 0 (BigBird has 1 or more)": self.random_blocks == 0,
            f"block_size: {self.block_size} (BigBird's divides max_positions, {max_positions})":
                max_positions % self.block_size != 0,
        }  # fmt: skip
        return {f"model.encoder_attention.{key}": is_so for key, is_so in found.items()
                if self.is_sparse}  # fmt: skip

    def check_fits(self, max_positions: int) -> None:
        """Raise ValueError if no text of so many tokens would be sparse."""
        if not self.is_sparse:
            return
        if self.block_size > max_positions:
            raise ValueError(
                f"encoder_attention.block_size {self.block_size} is more than max_positions "
                f"{max_positions}, the longest text"
            )
        num_blocks = -(-max_positions // self.block_size)
        if self.num_attended >= num_blocks:
            raise ValueError(
                f"encoder_attention: a block attends to {self.num_attended} (window_blocks "
                f"{self.window_blocks}, global_blocks {self.global_blocks}, random_blocks "
                f"{self.random_blocks}), and the longest text, max_positions {max_positions}, has "
                f"only {num_blocks} of {self.block_size} tokens: use fewer, a larger "
                "max_positions, or type: full"
            )

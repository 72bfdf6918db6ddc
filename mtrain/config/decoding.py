"""The section `decoding`: how a model translates."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mtrain.config.section import NonNegativeInt, PositiveInt, Section

BATCH_TOKENS = {"cpu": 12_288, "cuda": 65_536}


class DecodingConfig(Section):
    """How a model translates."""

    engine: Literal["torch", "ctranslate2", "ctranslate2-int8"] = "torch"
    """what searches: mtrain itself, or CTranslate2 on an export of the model, whose numbers or
    eight-bit weights may choose other words (extra: ctranslate2); validation is always torch"""
    method: Literal["beam", "sample"] = "beam"
    """beam search (greedy with beam_size 1), or sampling"""
    beam_size: Annotated[int, Field(gt=0, le=1000)] = 5
    """hypotheses searched in parallel"""
    length_penalty: Annotated[float, Field(ge=0, le=10)] = 1.0
    """a hypothesis's score is its log probability over its norm to this power"""
    length_norm: Literal["power", "gnmt"] = "power"
    """the norm: its length, or GNMT's (5 + length) / 6"""
    coverage_penalty: Annotated[float, Field(ge=0, le=100)] = 0.0
    """beam search: GNMT's penalty for source tokens that got little attention, times this"""
    alignment_layer: PositiveInt | None = None
    """decoder layer whose attention aligns words, covers the source and is guided by alignments;
    by default the last but one"""
    alignment_head: PositiveInt | None = None
    """which of its heads; by default the first if data.train has alignments, else their mean"""
    n_best: Annotated[int, Field(gt=0, le=1000)] = 1
    """hypotheses written a line, best first; beam search ends once these are settled"""
    max_length_ratio: Annotated[float, Field(gt=0, le=1000)] = 2.0
    """longest output: this times the source's tokens, plus 10"""
    temperature: Annotated[float, Field(ge=1e-3, le=1000)] = 1.0
    """sampling: below 1 is safer, above 1 wilder"""
    top_k: NonNegativeInt = 0
    """sampling: only from the so many likeliest; 0 is all"""
    top_p: Annotated[float, Field(ge=1e-6, le=1)] = 1.0
    """sampling: only from the likeliest that together have this probability"""
    batch_tokens: PositiveInt | None = None
    """source tokens times beams translated at once, at most; by default 12,288 on a CPU and 65,536
    on a GPU"""
    buffer_lines: PositiveInt = 10_000
    """lines read ahead and sorted by length"""

    @property
    def is_greedy(self) -> bool:
        """Whether each next token is the likeliest."""
        return self.method == "beam" and self.beam_size == 1

    @property
    def hypotheses_at_once(self) -> int:
        """How many hypotheses of a sentence are written side by side."""
        return self.beam_size if self.method == "beam" else self.n_best

    def tokens_at_once(self, device: str) -> int:
        """Return how many source tokens a batch has at most on a `cpu` or `cuda`.

        Each has as many places as hypotheses.
        """
        return max(1, (self.batch_tokens or BATCH_TOKENS[device]) // self.hypotheses_at_once)

    @model_validator(mode="after")
    def _beam_holds_the_n_best(self) -> "DecodingConfig":
        if self.method == "beam" and self.n_best > self.beam_size:
            raise ValueError(
                f"n_best {self.n_best} is more than beam_size {self.beam_size} can hold"
            )
        return self

    @model_validator(mode="after")
    def _engine_can_do_it(self) -> "DecodingConfig":
        ours_alone = {
            "method: sample": self.method == "sample",
            "length_norm: gnmt": self.length_norm == "gnmt",
            "coverage_penalty": self.coverage_penalty > 0,
        }
        asked = [name for name, is_asked in ours_alone.items() if is_asked]
        if self.engine != "torch" and asked:
            raise ValueError(f"{asked[0]} needs engine: torch; engine {self.engine} has none")
        return self

"""The section `decoding`: how a model translates."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mtrain.config.corpora import LanguageCode
from mtrain.config.section import NonNegativeInt, PositiveInt, Section

BATCH_TOKENS = {"cpu": 12_288, "cuda": 65_536}


class DecodingConfig(Section):
    """How a model translates."""

    engine: Literal["torch", "ctranslate2", "ctranslate2-int8"] = "torch"
    """search in PyTorch, or in CTranslate2 on an exported model (extra: ctranslate2); its rounding
    or 8-bit weights may change translations. Validation always uses torch"""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """of matrix products. auto: fp32 on a CPU, where bf16 is faster but outputs may then depend on
    the batch; on a GPU bf16 where it has it, else fp16"""
    source_lang: LanguageCode | None = None
    """language to translate from, where a model has a choice"""
    target_lang: LanguageCode | None = None
    """language to translate into, where a model has a choice"""
    method: Literal["beam", "sample"] = "beam"
    """beam search (greedy with beam_size 1), or sampling"""
    beam_size: Annotated[int, Field(gt=0, le=1000)] = 5
    """hypotheses in the beam"""
    length_penalty: Annotated[float, Field(ge=0, le=10)] = 1.0
    """exponent of the length norm; a hypothesis's score is its log probability / norm ** this"""
    length_norm: Literal["power", "gnmt"] = "power"
    """length norm: the length in tokens (power), or (5 + length) / 6 (gnmt)"""
    coverage_penalty: Annotated[float, Field(ge=0, le=100)] = 0.0
    """beam search: weight of GNMT's penalty for source tokens that received little attention"""
    alignment_layer: PositiveInt | None = None
    """decoder layer, from 1, that supplies attention for word alignment, the coverage penalty and
    guided alignment; by default the last but one"""
    alignment_head: PositiveInt | None = None
    """head of that layer, from 1; by default 1 if alignments of data.train train it, else their
    mean"""
    repetition_guard: bool = False
    """never write a phrase of 1 to 4 tokens three times in a row, unless the source has one"""
    n_best: Annotated[int, Field(gt=0, le=1000)] = 1
    """hypotheses to write per line, best first; beam search stops early once these many lead"""
    max_length_ratio: Annotated[float, Field(gt=0, le=1000)] = 2.0
    """maximum output length: this times the source length in tokens, plus 10"""
    temperature: Annotated[float, Field(ge=1e-3, le=1000)] = 1.0
    """sampling: divides the logits; below 1 sharpens the distribution, above 1 flattens it"""
    top_k: NonNegativeInt = 0
    """sampling: draw from the k most probable tokens; 0 is all"""
    top_p: Annotated[float, Field(ge=1e-6, le=1)] = 1.0
    """sampling: draw from the fewest most probable tokens that together reach this probability"""
    batch_tokens: PositiveInt | None = None
    """maximum of source tokens times hypotheses per sentence in a batch; by default 12,288 on a CPU
    and 65,536 on a GPU"""
    buffer_lines: PositiveInt = 10_000
    """lines read at once and sorted by length for batching; a longer document is cut there"""
    context_tokens: PositiveInt | None = None
    """translate --documents: maximum source tokens of a chunk, end of sentence included; by default
    data.context.tokens"""
    context_overlap: NonNegativeInt = 0
    """translate --documents: earlier lines of the document put before each chunk as context; their
    second translation is dropped"""

    @property
    def is_greedy(self) -> bool:
        """Whether decoding is greedy: the argmax at each step."""
        return self.method == "beam" and self.beam_size == 1

    @property
    def hypotheses_at_once(self) -> int:
        """Number of hypotheses of a sentence that are decoded in parallel."""
        return self.beam_size if self.method == "beam" else self.n_best

    def tokens_at_once(self, device: str) -> int:
        """Return the maximum source tokens of a batch on `cpu` or `cuda`.

        It is batch_tokens divided by the hypotheses per sentence.
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
            "repetition_guard: true": self.repetition_guard,
            "coverage_penalty": self.coverage_penalty > 0,
        }
        asked = [name for name, is_asked in ours_alone.items() if is_asked]
        if self.engine != "torch" and asked:
            raise ValueError(
                f"{asked[0]} is not possible with engine {self.engine}: use engine torch, "
                "or do without it"
            )
        return self

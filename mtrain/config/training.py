"""The section `training`: how a model learns, and which checkpoints are kept."""

from typing import Literal

from pydantic import Field, model_validator

from mtrain.config.section import (
    MAX_INT,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Section,
)


class TrainingConfig(Section):
    """How a model learns, and what is kept of it."""

    objective: Literal["translation"] = "translation"
    """what is learnt"""
    batch_tokens: PositiveInt = 4096
    """most tokens of a batch on either side, its little padding included"""
    accumulate: PositiveInt = 1
    """batches an update"""
    max_minutes: PositiveFloat | None = None
    """wall-clock budget that the schedule fits itself to, validation included"""
    max_updates: PositiveInt = Field(
        default_factory=lambda given: 3000 if given.get("max_minutes") is None else MAX_INT
    )
    """when training ends, also the length of the linear and cosine schedules; by default 3000, or
    with max_minutes when those are over"""
    learning_rate: PositiveFloat = 1e-3
    """highest learning rate, reached after the warm-up"""
    warmup_updates: NonNegativeInt = 500
    """updates of linear warm-up"""
    schedule: Literal["linear", "cosine", "inverse_sqrt"] = "linear"
    """after the warm-up: to zero in a line or a cosine, or with 1/sqrt(update)"""
    adam_betas: tuple[Probability, Probability] = (0.9, 0.98)
    """AdamW's decay rates"""
    weight_decay: NonNegativeFloat = 0.0
    """AdamW's decoupled decay, on matrices only"""
    clip_norm: NonNegativeFloat = 1.0
    """largest gradient norm; 0 is no clipping"""
    label_smoothing: Probability = 0.1
    """share of the probability spread over the vocabulary"""
    alignment_weight: NonNegativeFloat = 0.05
    """weight of the loss that guides an attention head by data.train's alignments, if any"""
    subword_sampling: Probability = 0.0
    """sample other segmentations: BPE-dropout rate, or unigram's smoothing alpha; 0 is off"""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 on a GPU that has it, fp16 on one that has not, fp32 on a CPU"""
    compile_layers: bool = True
    """on a GPU, have torch fuse the kernels of a Transformer: slower to start, then faster"""
    valid_every: PositiveInt = 250
    """updates between validations"""
    save_every: PositiveInt | None = None
    """updates between checkpoints, besides the one at each validation"""
    valid_metric: Literal["bleu", "chrf", "loss"] = "bleu"
    """what names the best checkpoint and stops early"""
    patience: NonNegativeInt = 0
    """end after so many validations without a better valid_metric; 0 is never"""
    keep_best: PositiveInt = 1
    """checkpoints kept for their valid_metric"""
    keep_last: PositiveInt = 2
    """checkpoints kept for being the newest"""
    ema_decay: Probability = 0.0
    """translate with an exponential moving average of the weights; 0 is off"""
    average_checkpoints: NonNegativeInt = 0
    """at the end, average the newest so many checkpoints into one more; 0 is off"""
    log_every: PositiveInt = 50
    """updates between lines in metrics.jsonl"""
    tensorboard: bool = False
    """also write TensorBoard events into the run folder (extra: tensorboard)"""

    @model_validator(mode="after")
    def _averaged_checkpoints_are_kept(self) -> "TrainingConfig":
        if self.average_checkpoints > self.keep_last:
            raise ValueError(
                f"average_checkpoints {self.average_checkpoints} needs as many kept: "
                f"set keep_last to {self.average_checkpoints} or more"
            )
        return self

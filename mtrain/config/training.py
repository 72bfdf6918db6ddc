"""The section `training`: optimisation, validation and checkpoints."""

from typing import Annotated, Literal

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


class ConsistencyConfig(Section):
    """A second pass over each batch, whose predictions are to be those of the first."""

    method: Literal["r_drop", "sim_cut"] = "r_drop"
    """r_drop: both passes learn, and differ by dropout (Wu et al. 2021). sim_cut: the second does
    not see some tokens, and learns from the first alone (Gao et al. 2022)"""
    weight: PositiveFloat = Field(
        default_factory=lambda given: 5.0 if given.get("method") == "r_drop" else 3.0
    )
    """weight of the divergence beside the cross-entropy; by default 5 with r_drop, 3 with
    sim_cut"""
    cut: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """share of the tokens on either side that sim_cut's second pass does not see"""


class TrainingConfig(Section):
    """How a model is trained, and which checkpoints are kept."""

    objective: Literal["translation", "masked_lm"] = "translation"
    """what a model learns: to translate, or (`model.type: bert`) to predict masked tokens"""
    batch_tokens: PositiveInt = 4096
    """maximum tokens per batch on either side, padding included"""
    accumulate: PositiveInt = 1
    """batches per update (gradient accumulation)"""
    max_minutes: PositiveFloat | None = None
    """wall-clock budget in minutes, validation included; the schedule adapts to it"""
    max_updates: PositiveInt = Field(
        default_factory=lambda given: 3000 if given.get("max_minutes") is None else MAX_INT
    )
    """maximum updates, and length of the linear and cosine schedules; by default 3000, or no limit
    with max_minutes"""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: Muon for the layers' matrices, AdamW for embeddings, output layer, norms and biases"""
    learning_rate: PositiveFloat = 1e-3
    """peak learning rate, reached at the end of the warm-up"""
    warmup_updates: NonNegativeInt = 500
    """updates of linear warm-up"""
    schedule: Literal["linear", "cosine", "inverse_sqrt"] = "linear"
    """decay after the warm-up: linear or cosine to zero, or 1/sqrt(update)"""
    adam_betas: tuple[Probability, Probability] = (0.9, 0.98)
    """AdamW's decay rates (beta1, beta2) of the two moments"""
    weight_decay: NonNegativeFloat = 0.0
    """decoupled weight decay, on matrices only"""
    freeze: tuple[str, ...] = ()
    """parameters that do not learn, by name: patterns such as `encoder.*` or `*embedding*`"""
    unfreeze: dict[str, PositiveInt] = Field(default_factory=dict)
    """updates from which parameters learn, by name pattern, such as {"encoder.*": 1000}: gradual
    unfreezing; the first pattern that matches a parameter decides, and the others always learn"""
    learning_rate_scale: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """factors of the learning rate by name pattern, such as {"encoder.*": 0.1}; the first pattern
    that matches a parameter decides, and the others have 1"""
    clip_norm: NonNegativeFloat = 1.0
    """maximum gradient norm, by clipping; 0 turns clipping off"""
    label_smoothing: Probability = Field(
        default_factory=lambda given: 0.0 if given.get("objective") == "masked_lm" else 0.1
    )
    """share of the target probability spread over the vocabulary; by default 0.1, or 0 with
    masked_lm"""
    masked_share: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """share of the tokens that masked_lm predicts: 80 % of these are masked, 10 % replaced by
    random ones, 10 % left as they are (Devlin 2019)"""
    mask_whole_words: bool = False
    """mask all tokens of a word together"""
    consistency: ConsistencyConfig | None = None
    """also learn to predict alike in two passes over each batch: an update takes two to three times
    as long"""
    alignment_weight: NonNegativeFloat = 0.05
    """weight of the guided-alignment loss, if data.train has alignments"""
    subword_sampling: Probability = 0.0
    """sample segmentations: BPE-dropout rate, or the unigram model's alpha; 0 is off"""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """of matrix products; weights, optimiser, norms and loss are in fp32. auto: bf16 where it is
    fast, which is measured on a CPU; elsewhere fp16 on a GPU and fp32 on a CPU"""
    compile_layers: bool = True
    """on a GPU, compile a Transformer's layers with torch: slower start, higher throughput"""
    gradient_reduction: Literal["overlapped", "ordered"] = "overlapped"
    """how processes add their gradients: overlapped with the backward pass, or ordered by batch,
    slowly, for the same bits with any number of processes"""
    sharding: Literal["none", "full"] = "none"
    """full: several processes share out weights, gradients and optimiser state (FSDP2), for models
    that do not fit into one GPU's memory; in eager execution"""
    valid_every: PositiveInt = 250
    """updates between validations"""
    save_every: PositiveInt | None = None
    """updates between additional checkpoints; every validation saves one as well"""
    valid_metric: Literal["bleu", "chrf", "loss", "accuracy"] = Field(
        default_factory=lambda given: "loss" if given.get("objective") == "masked_lm" else "bleu"
    )
    """dev metric that selects the best checkpoint and decides early stopping; by default bleu, or
    loss with masked_lm, which also has accuracy"""
    patience: NonNegativeInt = 0
    """early stopping: validations in a row without a better valid_metric, in the last stage; 0 is
    off"""
    keep_best: PositiveInt = 1
    """number of checkpoints to keep by best valid_metric"""
    keep_last: PositiveInt = 2
    """number of newest checkpoints to keep"""
    ema_decay: Probability = 0.0
    """decay of an exponential moving average of the weights, used to translate; 0 is off"""
    average_checkpoints: NonNegativeInt = 0
    """at the end, write one more checkpoint, the mean of this many of the newest; 0 is off"""
    log_every: PositiveInt = 50
    """updates between training records in metrics.jsonl"""
    tensorboard: bool = False
    """also write TensorBoard events to the run folder (extra: tensorboard)"""

    @property
    def predicted(self) -> str:
        """What the tokens are called that a model learns to predict."""
        return "masked" if self.objective == "masked_lm" else "target"

    @model_validator(mode="after")
    def _averaged_checkpoints_are_kept(self) -> "TrainingConfig":
        if self.average_checkpoints > self.keep_last:
            raise ValueError(
                f"average_checkpoints {self.average_checkpoints} needs as many kept: "
                f"set keep_last to {self.average_checkpoints} or more"
            )
        return self

    @model_validator(mode="after")
    def _reduction_fits_the_sharding(self) -> "TrainingConfig":
        if self.sharding == "full" and self.gradient_reduction == "ordered":
            raise ValueError(
                "gradient_reduction: ordered needs whole gradients: use sharding: none"
            )
        return self

    @model_validator(mode="after")
    def _all_learns_in_the_end(self) -> "TrainingConfig":
        late = [pattern for pattern, start in self.unfreeze.items() if start >= self.max_updates]
        if late:
            raise ValueError(
                f"unfreeze: {late[0]} would learn from update {self.unfreeze[late[0]]} on, and "
                f"max_updates is {self.max_updates}; to freeze it for good use freeze"
            )
        return self

    @model_validator(mode="after")
    def _metric_is_measured(self) -> "TrainingConfig":
        masked = ("loss", "accuracy")
        known = masked if self.objective == "masked_lm" else ("bleu", "chrf", "loss")
        if self.valid_metric not in known:
            raise ValueError(
                f"valid_metric: {self.valid_metric} is not measured with objective "
                f"{self.objective}; use {' or '.join(known)}"
            )
        return self

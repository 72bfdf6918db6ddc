"""The section `distillation`: what a student learns from its teachers."""

from typing import Literal

from pydantic import Field

from mtrain.config.section import (
    LocalPath,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Probability,
    Section,
)


class DistillationConfig(Section):
    """What a student learns from the runs that `mtrain distill` names as its teachers."""

    teachers: list[LocalPath] = Field([])
    """run folders that teach, which `mtrain distill` names; of several that translate, the
    probabilities are averaged"""
    targets: Literal["best", "interpolated", "original"] = "best"
    """translations to learn from: the teacher's best (Kim and Rush 2016), of its beam the one
    nearest the corpus's own by sentence BLEU (their interpolation), or the corpus's own"""
    original_share: Probability = 0.0
    """share of the training pairs that are the corpus's own, beside those of the teacher"""
    weight: Probability = 0.0
    """weight w of word-level distillation: the loss is w times the cross-entropy with the teacher's
    distribution of each token, plus 1 - w times that with the token of the text; 0 is off"""
    temperature: PositiveFloat = 1.0
    """temperature T: divides the logits of teacher and student for the cross-entropy with the
    teacher's distribution, which is multiplied by T squared (Hinton 2015)"""
    top_k: PositiveInt = 8
    """tokens of the teacher's distribution that `prepare` keeps; the rest of its mass is spread
    evenly over all others. A bert keeps none: its teacher computes in training"""
    hidden_weight: NonNegativeFloat = 0.0
    """weight of the cosine distance between the last hidden states of a bert and of its teacher
    (Sanh 2019)"""

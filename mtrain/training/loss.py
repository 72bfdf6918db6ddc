"""Cross-entropy with label smoothing, from feature vectors and the output matrix.

The logits of a batch are the largest thing in translation training: 4,096 tokens by 8,000
pieces are 131 MB. So they are made a few rows at a time, and each chunk gives its loss and
its gradients while it is still in the cache. They are computed once and never kept.

Shapes: B sentences, S source length, T target length, N tokens to be predicted, D width,
V vocabulary, C rows of a chunk. A target NOTHING is none.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtrain.data.batches import Batch
from mtrain.data.packing import NOTHING
from mtrain.models.base import NO_RECORD, Head, Model
from mtrain.training.precision import Precision

# 512 rows of 8,000 logits are 16 MB: small enough for a cache, large enough for a matrix product
CHUNK_LOGITS = {"cpu": 1 << 22, "cuda": 1 << 28}
# of logits (C,V), targets (C,1), smoothing, and whether the gradient is wanted
ChunkLoss = Callable[[Tensor, Tensor, float, bool], tuple[Tensor, Tensor]]
LEAST_ATTENTION = 1e-9  # keeps the logarithm finite where a head looks away altogether


def chunk_loss(
    logits: Tensor, targets: Tensor, smoothing: float, needs_gradient: bool
) -> tuple[Tensor, Tensor]:
    """Return the sums of a chunk's losses and normalisers, (2,), and the gradient (C,V) of logits
    (C,V), which it may write over, without what all words share."""
    real, targets = targets != NOTHING, targets.clamp_min(0)  # (C,1)
    precise = logits.float()
    of_targets = precise.gather(1, targets)
    # in their place on a CPU, to whose cache other memory is far away
    place = precise if precise.is_cpu else None
    log_probabilities = torch.log_softmax(precise, dim=1, out=place)
    nll = -log_probabilities.gather(1, targets)
    normalisers = nll + of_targets
    sums = (torch.cat([nll, normalisers], dim=1) * real).sum(dim=0)
    if not needs_gradient:
        return sums, logits
    gradient = log_probabilities.exp_()
    gradient.scatter_add_(1, targets, gradient.new_full(targets.shape, smoothing - 1))
    return sums, gradient.to(logits.dtype)


def fusible_chunk_loss(
    logits: Tensor, targets: Tensor, smoothing: float, needs_gradient: bool
) -> tuple[Tensor, Tensor]:
    """Do as `chunk_loss` does, in a form that torch.compile turns into two passes of logits."""
    real, targets = targets != NOTHING, targets.clamp_min(0)
    precise = logits.float()
    normalisers = precise.logsumexp(dim=1, keepdim=True)
    nll = normalisers - precise.gather(1, targets)
    sums = (torch.cat([nll, normalisers], dim=1) * real).sum(dim=0)
    words = torch.arange(logits.shape[1], device=logits.device)
    gradient = (precise - normalisers).exp() - (1 - smoothing) * (words == targets)
    return sums, gradient.to(logits.dtype)


def smoothed_cross_entropy(
    features: Tensor,
    output_matrix: Tensor,
    targets: Tensor,
    label_smoothing: float,
    chunk_loss: ChunkLoss = chunk_loss,
) -> tuple[Tensor, Tensor]:
    """Return two sums over tokens: the smoothed loss, and the plain negative log likelihood.

    `features` (N,D), `output_matrix` (V,D), `targets` (N,), of which NOTHING counts nothing. The
    smoothed loss is against (1-e) on the target plus e/V on every word (Szegedy 2016, section 7).
    Only the first of the two can be differentiated.
    """
    apply: Callable[..., tuple[Tensor, Tensor]] = _ProjectedCrossEntropy.apply
    return apply(features, output_matrix, targets, label_smoothing, chunk_loss)


@dataclass(frozen=True)
class Guide:
    """Which attention head learns from given alignments, and how much that weighs."""

    head: Head
    weight: float


def batch_loss(
    model: Model,
    batch: Batch,
    precision: Precision,
    label_smoothing: float,
    guide: Guide | None = None,
    chunk_loss: ChunkLoss = chunk_loss,
) -> tuple[Tensor, Tensor]:
    """Return the two sums of `smoothed_cross_entropy` over what a batch has to predict.

    A `guide` adds its `alignment_loss` to the first of them. The model computes in the
    precision's format; the loss is summed in fp32.
    """
    record = model.record_of(guide.head) if guide and batch.links is not None else NO_RECORD
    with precision.autocast():
        features, targets = model.predictions(batch, record)
    # some last layers give fp32, some half; in fp16 small gradients would be lost
    features = features.bfloat16() if precision.name == "bf16" else features.float()
    loss, nll = smoothed_cross_entropy(
        features, model.output.weight, targets, label_smoothing, chunk_loss
    )
    if guide and batch.links is not None:
        weights = model.alignment_in(record, batch, guide.head)
        loss = loss + guide.weight * alignment_loss(weights, batch.links)
    return loss, nll


def alignment_loss(weights: Tensor, links: Tensor) -> Tensor:
    """Return the cross-entropy of attention `weights` (B,T,S) against `links` (B,T,S), summed.

    Each row of `links` is a distribution over the source, or zero for a word without links
    (Garg et al. 2019, equation 6).
    """
    return -(links * weights.float().clamp_min(LEAST_ATTENTION).log()).sum()


class _ProjectedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        output_matrix: Tensor,
        targets: Tensor,
        smoothing: float,
        chunk_loss: ChunkLoss,
    ) -> tuple[Tensor, Tensor]:
        vocab_size = output_matrix.shape[0]
        needs_gradient = any(ctx.needs_input_grad[:2])
        matrix = output_matrix.detach().to(features.dtype)
        feature_gradient = torch.empty_like(features) if needs_gradient else None
        matrix_gradient = torch.zeros_like(output_matrix) if needs_gradient else None
        real = (targets != NOTHING).to(features.dtype)[:, None]
        features = features * real
        sums = features.new_zeros(2, dtype=torch.float32)
        num_chunks = math.ceil(len(features) * vocab_size / CHUNK_LOGITS[features.device.type])
        rows = math.ceil(len(features) / max(1, num_chunks)) or 1
        memory = features.new_empty(rows, vocab_size)
        for start in range(0, len(features), rows):
            chunk, target = features[start : start + rows], targets[start : start + rows, None]
            logits = torch.mm(chunk, matrix.T, out=memory[: len(chunk)])  # (C,V)
            chunk_sums, gradient = chunk_loss(logits, target, smoothing, needs_gradient)
            sums += chunk_sums
            if feature_gradient is not None and matrix_gradient is not None:
                torch.mm(gradient, matrix, out=feature_gradient[start : start + rows])
                matrix_gradient += gradient.T @ chunk
        nll, normalisers = sums
        # the smoothed share is the same for every word, so that sums over words factor out of it
        mean_word = matrix.float().mean(dim=0)  # (D,)
        feature_sum = features.float().sum(dim=0)  # (D,)
        loss = (1 - smoothing) * nll + smoothing * (normalisers - feature_sum @ mean_word)
        if feature_gradient is not None and matrix_gradient is not None:
            feature_gradient -= smoothing * mean_word
            feature_gradient *= real
            matrix_gradient -= smoothing / vocab_size * feature_sum
            ctx.save_for_backward(feature_gradient, matrix_gradient)
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    def backward(
        ctx: Any, loss_gradient: Tensor, _: Tensor
    ) -> tuple[Tensor, Tensor, None, None, None]:
        features, matrix = ctx.saved_tensors
        return features * loss_gradient.to(features.dtype), matrix * loss_gradient, None, None, None

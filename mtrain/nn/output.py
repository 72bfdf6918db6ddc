"""The output layer: feature vectors to logits, and a cross-entropy that stores no logits.

The logits of a batch are the largest tensor of translation training: 4,096 tokens by 8,000 pieces
take 131 MB. So the loss computes them once, in chunks of rows. It computes the loss and gradients
of a chunk while the chunk is still in the cache.

Shapes: N tokens to predict, D width, V vocabulary, C rows of a chunk.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

IGNORE_INDEX = -1  # a target that adds no loss
# 512 rows of 8,000 logits are 16 MB: small enough for a cache, large enough for a matrix product
CHUNK_LOGITS = {"cpu": 1 << 22, "cuda": 1 << 28}
# takes logits (C,V), targets (C,1), smoothing, and whether the gradient is wanted
ChunkLoss = Callable[[Tensor, Tensor, float, bool], tuple[Tensor, Tensor]]
# takes the rows of a chunk, their logits (C,V), and whether the gradient is wanted; returns sums
# (2,) and the gradient (C,V)
RowsLoss = Callable[[slice, Tensor, bool], tuple[Tensor, Tensor]]


class OutputLayer(nn.Linear):
    """A linear map from features (...,D) to logits (...,V), with its own loss."""

    def __init__(self, width: int, vocab_size: int, bias: bool = False) -> None:
        super().__init__(width, vocab_size, bias)
        nn.init.normal_(self.weight, std=width**-0.5)
        if bias:
            nn.init.zeros_(self.bias)
        self._fused_chunk_loss: ChunkLoss | None = None

    def compile_loss(self) -> None:
        """Let torch.compile fuse the loss, for feature matrices of one static shape."""
        self._fused_chunk_loss = torch.compile(fusible_chunk_loss, dynamic=False)

    def cross_entropy(
        self,
        features: Tensor,
        targets: Tensor,
        label_smoothing: float,
        has_static_shape: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Return two sums over tokens: the smoothed loss, and the plain negative log likelihood.

        Takes `features` (N,D) and `targets` (N,); skips targets of IGNORE_INDEX. The smoothed loss
        puts (1-e) on the target plus e/V on every word (Szegedy 2016, section 7). Only the first
        sum is differentiable. Features of a static shape use the loss that `compile_loss` compiled.
        """
        chunk_loss_of = self._fused_chunk_loss if has_static_shape else None
        apply: Callable[..., tuple[Tensor, Tensor]] = _ProjectedCrossEntropy.apply
        return apply(
            features, self.weight, self.bias, targets, label_smoothing, chunk_loss_of or chunk_loss
        )


def chunk_loss(
    logits: Tensor, targets: Tensor, smoothing: float, needs_gradient: bool
) -> tuple[Tensor, Tensor]:
    """Return a chunk's summed loss and normaliser, (2,), and the gradient (C,V) of its logits.

    Logits are (C,V), targets (C,1). May overwrite the logits. Leaves out the smoothing term, which
    is the same for every word.
    """
    real, targets = targets != IGNORE_INDEX, targets.clamp_min(0)  # (C,1)
    precise = logits.float()
    of_targets, largest = precise.gather(1, targets), precise.amax(dim=1, keepdim=True)
    # in place on a CPU: newly allocated memory is not in the cache
    gradient = torch.softmax(precise, dim=1, out=precise if precise.is_cpu else None)
    # the largest probability is exp(largest logit - normaliser); one exponential a logit suffices
    normalisers = largest - gradient.amax(dim=1, keepdim=True).log()
    nll = normalisers - of_targets
    sums = (torch.cat([nll, normalisers], dim=1) * real).sum(dim=0)
    if not needs_gradient:
        return sums, logits
    gradient.scatter_add_(1, targets, gradient.new_full(targets.shape, smoothing - 1))
    return sums, gradient.to(logits.dtype)


def fusible_chunk_loss(
    logits: Tensor, targets: Tensor, smoothing: float, needs_gradient: bool
) -> tuple[Tensor, Tensor]:
    """Compute `chunk_loss`, written so that torch.compile needs two passes over the logits."""
    real, targets = targets != IGNORE_INDEX, targets.clamp_min(0)
    precise = logits.float()
    normalisers = precise.logsumexp(dim=1, keepdim=True)
    nll = normalisers - precise.gather(1, targets)
    sums = (torch.cat([nll, normalisers], dim=1) * real).sum(dim=0)
    words = torch.arange(logits.shape[1], device=logits.device)
    gradient = (precise - normalisers).exp() - (1 - smoothing) * (words == targets)
    return sums, gradient.to(logits.dtype)


@dataclass
class Projected:
    """Sums (2,) of a loss over all rows, and gradients of features, weight and bias.

    A gradient that is not wanted has no meaning, or is None. `mean_word` (D,) is the mean row of
    the output matrix, by which a loss of every word is computed.
    """

    sums: Tensor
    mean_word: Tensor
    of_features: Tensor
    of_weight: Tensor
    of_bias: Tensor | None


def project(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    real: Tensor,
    wants: Sequence[bool],
    rows_loss: RowsLoss,
    multiple: int = 1,
) -> Projected:
    """Compute a loss of logits chunk by chunk, without storing them.

    Takes features (N,D), the output layer's weight (V,D) and bias, `real` (N,1), which is 0 for
    rows without a target, and which gradients are wanted: of features, weight and bias. Each chunk
    has a multiple of so many rows, as N has.
    """
    needs_gradient, matrix = any(wants), weight.detach().to(features.dtype)
    found = Projected(
        features.new_zeros(2, dtype=torch.float32),
        matrix.float().mean(dim=0),
        torch.empty_like(features),
        weight.new_zeros(weight.shape if wants[1] else 0),
        None if bias is None else torch.zeros_like(bias),
    )
    for rows, memory in _chunks(features, len(matrix), multiple):
        chunk = features[rows]
        logits = torch.mm(chunk, matrix.T, out=memory[: len(chunk)])  # (C,V)
        if bias is not None:
            logits += bias
        sums, gradient = rows_loss(rows, logits, needs_gradient)
        found.sums += sums
        if needs_gradient:
            torch.mm(gradient, matrix, out=found.of_features[rows])
            if wants[1]:
                found.of_weight += gradient.T @ chunk
            if found.of_bias is not None:
                found.of_bias += (gradient * real[rows]).float().sum(dim=0)
    return found


class ProjectedLoss(torch.autograd.Function):
    """A loss whose gradients of features, weight and bias `forward` has computed and saved."""

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Return those gradients, times that of the loss."""
        loss_gradient = gradients[0]
        features, weight, bias = ctx.saved_tensors
        return (
            features * loss_gradient.to(features.dtype),
            weight * loss_gradient if ctx.needs_input_grad[1] else None,
            None if bias is None else bias * loss_gradient,
            None,
            None,
            None,
        )


class _ProjectedCrossEntropy(ProjectedLoss):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        smoothing: float,
        chunk_loss: ChunkLoss,
    ) -> tuple[Tensor, Tensor]:
        vocab_size = weight.shape[0]
        real = (targets != IGNORE_INDEX).to(features.dtype)[:, None]
        features = features * real

        def rows_loss(rows: slice, logits: Tensor, needs_gradient: bool) -> tuple[Tensor, Tensor]:
            return chunk_loss(logits, targets[rows, None], smoothing, needs_gradient)

        wants = ctx.needs_input_grad[:3]
        found = project(features, weight, bias, real, wants, rows_loss)
        nll, normalisers = found.sums
        # the smoothing term is the same for every word, so sums over words factor out of it
        feature_sum = features.float().sum(dim=0)  # (D,)
        mean_logits = feature_sum @ found.mean_word
        if bias is not None:
            mean_logits = mean_logits + real.float().sum() * bias.float().mean()
        loss = (1 - smoothing) * nll + smoothing * (normalisers - mean_logits)
        if any(wants):
            found.of_features -= smoothing * found.mean_word
            found.of_features *= real
            if wants[1]:
                found.of_weight -= smoothing / vocab_size * feature_sum
            if found.of_bias is not None:
                found.of_bias -= smoothing / vocab_size * real.float().sum()
            ctx.save_for_backward(found.of_features, found.of_weight, found.of_bias)
        ctx.mark_non_differentiable(nll)
        return loss, nll


def _chunks(features: Tensor, vocab_size: int, multiple: int) -> list[tuple[slice, Tensor]]:
    """Return slices of equal size, each with the buffer (C,V) that all their logits share."""
    num_chunks = math.ceil(len(features) * vocab_size / CHUNK_LOGITS[features.device.type])
    rows = math.ceil(len(features) / max(1, num_chunks)) or 1
    rows += -rows % multiple
    memory = features.new_empty(rows, vocab_size)
    return [(slice(start, start + rows), memory) for start in range(0, len(features), rows)]

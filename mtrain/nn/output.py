"""The output layer: feature vectors to logits, and a cross-entropy that stores no logits.

The logits of a batch are the largest tensor of translation training: 4,096 tokens by 8,000 pieces
take 131 MB. So the loss computes them once, in chunks of rows. It computes the loss and gradients
of a chunk while the chunk is still in the cache.

Shapes: N tokens to predict, D width, V vocabulary, C rows of a chunk.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

IGNORE_INDEX = -1  # a target that adds no loss
# 512 rows of 8,000 logits are 16 MB: small enough for a cache, large enough for a matrix product
CHUNK_LOGITS = {"cpu": 1 << 22, "cuda": 1 << 28}
# takes logits (C,V), targets (C,1), smoothing, and whether the gradient is wanted
ChunkLoss = Callable[[Tensor, Tensor, float, bool], tuple[Tensor, Tensor]]


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


class _ProjectedCrossEntropy(torch.autograd.Function):
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
        needs_gradient = any(ctx.needs_input_grad[:3])
        matrix = weight.detach().to(features.dtype)
        feature_gradient = torch.empty_like(features)
        weight_learns = ctx.needs_input_grad[1]
        weight_gradient = weight.new_zeros(weight.shape if weight_learns else 0)
        bias_gradient = None if bias is None else torch.zeros_like(bias)
        real = (targets != IGNORE_INDEX).to(features.dtype)[:, None]
        features = features * real
        sums = features.new_zeros(2, dtype=torch.float32)
        for rows, memory in chunks(features, vocab_size):
            chunk = features[rows]
            logits = torch.mm(chunk, matrix.T, out=memory[: len(chunk)])  # (C,V)
            if bias is not None:
                logits += bias
            chunk_sums, gradient = chunk_loss(
                logits, targets[rows, None], smoothing, needs_gradient
            )
            sums += chunk_sums
            if needs_gradient:
                torch.mm(gradient, matrix, out=feature_gradient[rows])
                if weight_learns:
                    weight_gradient += gradient.T @ chunk
                if bias_gradient is not None:
                    bias_gradient += (gradient * real[rows]).float().sum(dim=0)
        nll, normalisers = sums
        # the smoothing term is the same for every word, so sums over words factor out of it
        mean_word = matrix.float().mean(dim=0)  # (D,)
        feature_sum = features.float().sum(dim=0)  # (D,)
        mean_logits = feature_sum @ mean_word
        if bias is not None:
            mean_logits = mean_logits + real.float().sum() * bias.float().mean()
        loss = (1 - smoothing) * nll + smoothing * (normalisers - mean_logits)
        if needs_gradient:
            feature_gradient -= smoothing * mean_word
            feature_gradient *= real
            if weight_learns:
                weight_gradient -= smoothing / vocab_size * feature_sum
            if bias_gradient is not None:
                bias_gradient -= smoothing / vocab_size * real.float().sum()
            ctx.save_for_backward(feature_gradient, weight_gradient, bias_gradient)
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
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


def chunks(features: Tensor, vocab_size: int) -> list[tuple[slice, Tensor]]:
    """Return slices of equal size, each with the buffer (C,V) that all their logits share."""
    num_chunks = math.ceil(len(features) * vocab_size / CHUNK_LOGITS[features.device.type])
    rows = math.ceil(len(features) / max(1, num_chunks)) or 1
    memory = features.new_empty(rows, vocab_size)
    return [(slice(start, start + rows), memory) for start in range(0, len(features), rows)]

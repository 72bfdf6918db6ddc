"""Cross-entropy of two passes over the same targets, and how far their predictions differ.

Like the loss of the output layer it stores no logits: a chunk holds the rows of both passes.

Shapes: N tokens to predict, D width, V vocabulary, C rows of a chunk, half of them of each pass.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mtrain.nn.output import IGNORE_INDEX, OutputLayer, ProjectedLoss, RowsLoss, project

# takes log probabilities and probabilities (C/2,V) of both passes; returns the divergence (C/2,)
# and its gradients by the logits of both, (C/2,V)
Divergence = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def symmetric_kl(
    log_first: Tensor, log_second: Tensor, first: Tensor, second: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean of both Kullback-Leibler divergences (Wu et al. 2021, equation 2)."""
    forward, of_first, to_second = kl(log_first, log_second, first, second)
    backward, of_second = _of_first(log_second, log_first, second)
    return (
        (forward + backward) / 2,
        of_first.sub_(to_second).div_(2),
        of_second.add_(to_second).div_(2),
    )


def kl(
    log_first: Tensor, log_second: Tensor, first: Tensor, second: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return KL(first || second), differentiated by both (Gao et al. 2022, equation 5)."""
    return *_of_first(log_first, log_second, first), second - first


def _of_first(log_first: Tensor, log_second: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """Return KL(first || second), and its gradient by the logits of the first."""
    difference = log_first - log_second
    value = torch.linalg.vecdot(first, difference)
    return value, difference.sub_(value[:, None]).mul_(first)


def consistent_cross_entropy(
    layer: OutputLayer,
    passes: tuple[Tensor, Tensor],
    targets: Tensor,
    label_smoothing: float,
    shares: tuple[float, float],
    divergence: Divergence,
    weight: float,
) -> tuple[Tensor, Tensor]:
    """Return two sums over tokens: the loss, and the plain NLL of the first pass.

    Takes the features (N,D) of two passes and `targets` (N,); skips targets of IGNORE_INDEX. The
    loss is the smoothed cross-entropy of each pass times its share, plus `weight` times the
    divergence of the second pass's predictions from the first's. Only it is differentiable.
    """
    features = torch.stack(passes, dim=1).flatten(0, 1)  # a token's two rows follow each other
    both = targets.repeat_interleave(2)

    def loss_of(rows: slice, logits: Tensor, needs_gradient: bool) -> tuple[Tensor, Tensor]:
        del needs_gradient  # validation makes one pass, and so never comes here
        real = both[rows][::2] != IGNORE_INDEX
        tokens = both[rows].clamp_min(0)[:, None]
        logs = logits.float().log_softmax(dim=1)
        probabilities = logs.exp()
        loss, *gradients = divergence(
            logs[::2], logs[1::2], probabilities[::2], probabilities[1::2]
        )
        losses, nll, gradient = _smoothed(logs, probabilities, tokens, label_smoothing)
        loss = weight * loss
        for first, share, of_divergence in zip((0, 1), shares, gradients, strict=True):
            loss = loss + share * losses[first::2]
            gradient[first::2] *= share  # no tensor of the shares: a CUDA graph could not copy it
            gradient[first::2] += weight * of_divergence
        sums = torch.stack([(loss * real).sum(), (nll[::2] * real).sum()])
        return sums, gradient.to(logits.dtype)

    apply: Callable[..., tuple[Tensor, Tensor]] = _ProjectedConsistency.apply
    return apply(features, layer.weight, layer.bias, both != IGNORE_INDEX, loss_of, 2)


def _smoothed(
    logs: Tensor, probabilities: Tensor, tokens: Tensor, smoothing: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return smoothed cross-entropies (C,), plain ones (C,), and the gradient (C,V) of the first.

    Takes log probabilities and probabilities (C,V), and tokens (C,1). The gradient overwrites the
    probabilities.
    """
    nll = -logs.gather(1, tokens)[:, 0]
    losses = (1 - smoothing) * nll - smoothing * logs.mean(dim=1)
    gradient = probabilities.sub_(smoothing / logs.shape[1])
    gradient.scatter_add_(1, tokens, gradient.new_full(tokens.shape, smoothing - 1))
    return losses, nll, gradient


class _ProjectedConsistency(ProjectedLoss):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        is_real: Tensor,
        rows_loss: RowsLoss,
        multiple: int,
    ) -> tuple[Tensor, Tensor]:
        real = is_real.to(features.dtype)[:, None]
        wants = ctx.needs_input_grad[:3]
        found = project(features * real, weight, bias, real, wants, rows_loss, multiple)
        loss, nll = found.sums
        if any(wants):
            found.of_features *= real
            ctx.save_for_backward(found.of_features, found.of_weight, found.of_bias)
        ctx.mark_non_differentiable(nll)
        return loss, nll

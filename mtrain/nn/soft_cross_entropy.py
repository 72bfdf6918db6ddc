"""Cross-entropy with distributions in place of single tokens, as distillation needs it.

Like the loss of the output layer it stores no logits: it computes loss and gradients in chunks of
rows, all distributions of a token in one pass over the output matrix.

Shapes: N tokens to predict, D width, V vocabulary, C rows of a chunk, K tokens with a share.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtrain.nn.output import IGNORE_INDEX, OutputLayer, ProjectedLoss, RowsLoss, project


@dataclass(frozen=True)
class SparseDistribution:
    """Shares of some words, and a rest that all V words share evenly. They sum to 1.

    A word may be named twice; a share may be negative where the rest is large.
    """

    ids: Tensor  # (N,K)
    shares: Tensor  # (N,K)
    rest: Tensor  # (N,)

    @classmethod
    def of_tokens(cls, tokens: Tensor, label_smoothing: float) -> "SparseDistribution":
        """Return (1-e) on each token (N,) plus e/V on every word (Szegedy 2016, section 7).

        What it returns for IGNORE_INDEX has no meaning.
        """
        rest = torch.full(tokens.shape, label_smoothing, device=tokens.device)
        return cls(tokens.clamp_min(0)[:, None], 1 - rest[:, None], rest)

    @classmethod
    def of_likeliest(
        cls, ids: Tensor, log_probs: Tensor, vocab_size: int, temperature: float
    ) -> "SparseDistribution":
        """Return a distribution at a temperature from its likeliest words, ids and log_probs (N,K).

        The mass that these leave is spread evenly over all other words. All V words are then
        raised to 1/temperature and normalised.
        """
        known = log_probs.float()
        num_others = vocab_size - ids.shape[1]
        # rounding may take their sum to over 1, or below it where there are no others
        left = (1 - known.exp().sum(dim=1, keepdim=True)).clamp_min(0) * (num_others > 0)
        other = (left / max(1, num_others)).log() / temperature  # of each; -inf if none is left
        known = known / temperature
        total = torch.cat([known, other + math.log(max(1, num_others))], dim=1)
        normaliser = total.logsumexp(dim=1, keepdim=True)
        even = (other - normaliser).exp()
        return cls(ids, (known - normaliser).exp() - even, even[:, 0] * vocab_size)

    def mixed_with(self, other: "SparseDistribution", weight: float) -> "SparseDistribution":
        """Return (1-weight) of this distribution and `weight` of the other."""
        own = 1 - weight
        return SparseDistribution(
            torch.cat([self.ids, other.ids], dim=1),
            torch.cat([own * self.shares, weight * other.shares], dim=1),
            own * self.rest + weight * other.rest,
        )

    def of(self, rows: slice) -> "SparseDistribution":
        """Return the distributions of some tokens."""
        return SparseDistribution(self.ids[rows], self.shares[rows], self.rest[rows])

    def dot(self, logits: Tensor) -> Tensor:
        """Return the expected logit (N,1) of logits (N,V), without that of the rest."""
        return (self.shares * logits.gather(1, self.ids)).sum(dim=1, keepdim=True)

    def subtract_from(self, probabilities: Tensor) -> None:
        """Subtract from probabilities (N,V) in place, without the rest."""
        probabilities.scatter_add_(1, self.ids, -self.shares)


class DenseDistribution:
    """The softmax of the logits that a teacher computes from features (N,D), chunk by chunk."""

    def __init__(self, features: Tensor, layer: OutputLayer, temperature: float) -> None:
        self.rest = features.new_zeros(len(features), dtype=torch.float32)
        self._features = features
        self._matrix = layer.weight.detach().to(features.dtype)
        self._bias = None if layer.bias is None else layer.bias.detach()
        self._temperature = temperature

    def of(self, rows: slice) -> "_Probabilities":
        """Return the distributions of some tokens."""
        logits = self._features[rows] @ self._matrix.T
        if self._bias is not None:
            logits += self._bias
        return _Probabilities(torch.softmax(logits.float() / self._temperature, dim=1))


class _Probabilities:
    def __init__(self, values: Tensor) -> None:
        self._values = values

    def dot(self, logits: Tensor) -> Tensor:
        return (self._values * logits).sum(dim=1, keepdim=True)

    def subtract_from(self, probabilities: Tensor) -> None:
        probabilities -= self._values


@dataclass(frozen=True)
class Term:
    """A cross-entropy with a distribution, times `weight`; the logits are divided by temperature.

    The distribution is given at that temperature.
    """

    distribution: SparseDistribution | DenseDistribution
    weight: float = 1.0
    temperature: float = 1.0


def soft_cross_entropy(
    layer: OutputLayer, features: Tensor, targets: Tensor, terms: Sequence[Term]
) -> tuple[Tensor, Tensor]:
    """Return two sums over tokens: the loss, which is the sum of the terms, and the plain NLL.

    Takes `features` (N,D) and `targets` (N,); skips targets of IGNORE_INDEX. The last term has
    temperature 1. Only the first sum is differentiable.
    """
    assert terms[-1].temperature == 1
    real = targets != IGNORE_INDEX
    tokens = targets.clamp_min(0)[:, None]

    def loss_of(rows: slice, logits: Tensor, needs_gradient: bool) -> tuple[Tensor, Tensor]:
        of_rows = [(term, term.distribution.of(rows)) for term in terms]
        return _chunk_loss(logits, tokens[rows], real[rows, None], of_rows, needs_gradient)

    rest = torch.stack([term.distribution.rest * (term.weight / term.temperature)
                        for term in terms]).sum(dim=0)  # fmt: skip
    apply: Callable[..., tuple[Tensor, Tensor]] = _ProjectedSoftCrossEntropy.apply
    return apply(features, layer.weight, layer.bias, real, rest * real, loss_of)


def _chunk_loss(
    logits: Tensor,
    tokens: Tensor,
    real: Tensor,
    terms: Sequence[tuple[Term, SparseDistribution | _Probabilities]],
    needs_gradient: bool,
) -> tuple[Tensor, Tensor]:
    """Return a chunk's summed loss and NLL, (2,), and the gradient (C,V) of its logits.

    Logits are (C,V), tokens and real (C,1). May overwrite the logits. Leaves out the rest of each
    distribution, which is the same for every word.
    """
    precise = logits.float()
    loss = nll = torch.zeros_like(real, dtype=torch.float32)
    total = None
    for number, (term, distribution) in enumerate(terms, start=1):
        scaled = precise if term.temperature == 1 else precise / term.temperature
        of_tokens, expected = scaled.gather(1, tokens), distribution.dot(scaled)
        largest = scaled.amax(dim=1, keepdim=True)
        # in place on a CPU: newly allocated memory is not in the cache
        in_place = scaled.is_cpu and (scaled is not precise or number == len(terms))
        gradient = torch.softmax(scaled, dim=1, out=scaled if in_place else None)
        # the largest probability is exp(largest logit - normaliser)
        normalisers = largest - gradient.amax(dim=1, keepdim=True).log()
        loss = loss + term.weight * (normalisers - expected)
        nll = normalisers - of_tokens
        if not needs_gradient:
            continue
        distribution.subtract_from(gradient)
        if term.weight != term.temperature:
            gradient *= term.weight / term.temperature
        total = gradient if total is None else total.add_(gradient)
    sums = (torch.cat([loss, nll], dim=1) * real).sum(dim=0)
    return sums, logits if total is None else total.to(logits.dtype)


class _ProjectedSoftCrossEntropy(ProjectedLoss):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        is_real: Tensor,
        rest: Tensor,
        rows_loss: RowsLoss,
    ) -> tuple[Tensor, Tensor]:
        vocab_size = weight.shape[0]
        real = is_real.to(features.dtype)[:, None]
        features = features * real
        wants = ctx.needs_input_grad[:3]
        found = project(features, weight, bias, real, wants, rows_loss)
        loss, nll = found.sums
        # the rest is the same for every word, so sums over words factor out of it
        feature_sum = rest @ features.float()  # (D,)
        mean_logits = feature_sum @ found.mean_word
        if bias is not None:
            mean_logits = mean_logits + rest.sum() * bias.float().mean()
        loss = loss - mean_logits
        if any(wants):
            found.of_features -= rest[:, None] * found.mean_word
            found.of_features *= real
            if wants[1]:
                found.of_weight -= feature_sum / vocab_size
            if found.of_bias is not None:
                found.of_bias -= rest.sum() / vocab_size
            ctx.save_for_backward(found.of_features, found.of_weight, found.of_bias)
        ctx.mark_non_differentiable(nll)
        return loss, nll

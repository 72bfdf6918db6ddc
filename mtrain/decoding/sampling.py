"""Sampling: each next token is drawn from the model's distribution.

Each source has a seed of its own, so that its samples do not depend on its batch.

Shapes: B sentences still open, K samples each, T most tokens of a sample, V vocabulary.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mtrain.decoding.hypothesis import Hypothesis, Marks, Scoring
from mtrain.decoding.repetition import RepetitionGuard
from mtrain.models.base import SearchedModel
from mtrain.nn.feature_attention import Features


def sample_search(
    model: SearchedModel,
    source: Tensor,
    source_lengths: Tensor,
    limits: list[int],
    marks: Marks,
    num_samples: int,
    scoring: Scoring,
    temperature: float,
    top_k: int,
    top_p: float,
    seeds: Sequence[int],
    source_features: Features | None = None,
) -> list[list[Hypothesis]]:
    """Return K independent samples of each source (B,S), likeliest first.

    Temperature, top-k (Fan 2018) and top-p (Holtzman 2020) change the distribution that tokens
    are drawn from; scores come from the unchanged model distribution. `seeds` holds one a source.
    """
    eos_id = marks.eos_id
    found: list[list[Hypothesis]] = [[] for _ in limits]
    state = marks.begin(model, source, source_lengths, features=source_features)
    shape = (len(limits), num_samples)
    state = state.reorder(source.new_zeros(shape))
    tokens = source.new_full((*shape, 1), marks.start[-1])
    scores = torch.zeros(shape, device=source.device)
    is_ended = torch.zeros(shape, dtype=torch.bool, device=source.device)
    guard = RepetitionGuard(source, source_lengths) if scoring.repetition_guard else None
    uniforms = _uniforms(seeds, limits, num_samples).to(source.device)
    open_sentences = list(range(len(limits)))
    while open_sentences:
        logits, state = model.step(tokens[:, :, -1], state)
        log_probabilities = logits.float().log_softmax(dim=-1)
        is_lost = log_probabilities.isnan().any(dim=2)  # no distribution to draw from
        drawable = log_probabilities.masked_fill(is_lost[:, :, None], 0.0)
        if guard is not None:
            guard.forbid(drawable, tokens)
        new = _draw(drawable, temperature, top_k, top_p, uniforms[tokens.shape[2] - 1])
        new = new.masked_fill(is_ended | is_lost, eos_id)
        gains = log_probabilities.gather(2, new[:, :, None])[:, :, 0]
        gains = gains.masked_fill(is_lost, float("-inf"))
        scores = scores + gains.masked_fill(is_ended, 0.0)
        tokens = torch.cat([tokens, new[:, :, None]], dim=2)
        is_ended = is_ended | (new == eos_id)
        length = tokens.shape[2] - 1
        closed = is_ended.all(dim=1).tolist()
        kept = []
        for row, number in enumerate(open_sentences):
            if closed[row] or length >= limits[number]:
                found[number] = _hypotheses(tokens[row], scores[row], eos_id, scoring)
            else:
                kept.append(row)
        if len(kept) < len(open_sentences):
            rows = torch.tensor(kept, dtype=torch.long, device=source.device)
            open_sentences = [open_sentences[row] for row in kept]
            tokens, scores, is_ended = tokens[rows], scores[rows], is_ended[rows]
            uniforms, state = uniforms[:, rows], state.keep(rows)
            if guard is not None:
                guard.keep(rows)
    return found


def _uniforms(seeds: Sequence[int], limits: Sequence[int], num_samples: int) -> Tensor:
    """Return numbers (T,B,K) from 0 to below 1; those of a source depend on its seed alone."""
    uniforms = np.zeros((max(limits), len(limits), num_samples))
    for row, (seed, limit) in enumerate(zip(seeds, limits, strict=True)):
        uniforms[:limit, row] = np.random.default_rng(seed).random((limit, num_samples))
    return torch.from_numpy(uniforms)


def _draw(
    log_probabilities: Tensor, temperature: float, top_k: int, top_p: float, uniform: Tensor
) -> Tensor:
    """Draw one token (B,K) from each distribution (B,K,V), by a uniform number (B,K) for each."""
    scores = log_probabilities / temperature
    vocab_size = scores.shape[-1]
    if 0 < top_k < vocab_size:
        smallest = scores.topk(top_k, dim=-1).values[..., -1:]
        scores = scores.masked_fill(scores < smallest, float("-inf"))
    if top_p < 1:
        ordered, places = scores.softmax(dim=-1).sort(dim=-1, descending=True)
        is_beyond = ordered.cumsum(dim=-1) - ordered >= top_p  # never the first
        scores = scores.masked_fill(is_beyond.gather(-1, places.argsort(dim=-1)), float("-inf"))
    # inverse of the cumulative distribution: the first token whose sum is above the number
    cumulative = scores.softmax(dim=-1).double().cumsum(dim=-1)
    wanted = (uniform * cumulative[..., -1])[..., None].contiguous()
    drawn = torch.searchsorted(cumulative, wanted, right=True)[..., 0]
    return drawn.clamp(max=vocab_size - 1)


def _hypotheses(tokens: Tensor, scores: Tensor, eos_id: int, scoring: Scoring) -> list[Hypothesis]:
    found = []
    for ids, total in zip(tokens[:, 1:].tolist(), scores.tolist(), strict=True):
        is_ended = eos_id in ids
        kept = ids[: ids.index(eos_id)] if is_ended else ids
        num_tokens = len(kept) + is_ended
        score = scoring.score(total, num_tokens)
        found.append(Hypothesis(kept, score, not is_ended or total == float("-inf")))
    return sorted(found, key=lambda hypothesis: (hypothesis.cut_off, -hypothesis.score))

"""Beam search over the model contract; for a beam of one see greedy.py.

Shapes: B sentences still searched, K hypotheses each, t tokens so far, V vocabulary.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mtrain.decoding.hypothesis import NOTHING, Hypothesis, Scoring
from mtrain.decoding.rows import rows_to_keep
from mtrain.decoding.top import top_sums
from mtrain.models.base import Model


@dataclass
class _Sentence:
    """What has been found for one sentence."""

    limit: int  # most tokens before the end mark
    found: list[Hypothesis] = field(default_factory=list)

    def add(self, hypothesis: Hypothesis, beam_size: int) -> None:
        self.found.append(hypothesis)
        self.found.sort(key=lambda found: (found.cut_off, -found.score))
        del self.found[beam_size:]

    def is_done(
        self, best_open: float, length: int, beam_size: int, n_best: int, scoring: Scoring
    ) -> bool:
        """Tell whether what is open, all of `length` tokens, is given up."""
        # a penalty can only make what is open worse, and is left out
        is_full = len(self.found) == beam_size
        if is_full and self.found[-1].score >= scoring.score(best_open, length + 1):
            return True
        has_best = len(self.found) >= n_best
        return has_best and self.found[n_best - 1].score >= scoring.score(
            best_open, length + granted(length)
        )


def granted(length: int) -> int:
    """Return how many tokens an open hypothesis of so many is to be granted at no cost.

    As few as leave the translations as they are: with 4 alone none of 1,014 sentences is otherwise,
    by four models (with 3, five are; with 1, 204), but some are with a length penalty of 2.
    """
    return max(4, length // 3)


def beam_search(
    model: Model,
    source: Tensor,
    source_lengths: Tensor,
    limits: list[int],
    marks: tuple[int, int],
    beam_size: int,
    n_best: int,
    scoring: Scoring,
) -> list[list[Hypothesis]]:
    """Return up to K hypotheses of each source (B,S), best first; `n_best` of them are asked for.

    `limits[b]` is the length of sentence b, without end mark, at which a hypothesis is cut off; it
    then comes after all that ended. `marks` are the ids of <s> and </s>.
    A sentence is done once it has K hypotheses that no open one is ahead of, length considered, or
    `n_best` that none would be ahead of though it were longer by what is `granted` at no cost.
    Raises `UserError` where coverage is to be penalised and the model has no attention.
    """
    start_id, end_id = marks
    sentences = [_Sentence(limit) for limit in limits]
    open_sentences = list(range(len(sentences)))  # the number of each row's sentence
    watched = scoring.watched if scoring.coverage_penalty else None
    state = model.encode(source, source_lengths, watched)
    tokens = source.new_full((len(sentences), 1, 1), start_id)  # (B,K,1+t)
    scores = torch.zeros(tokens.shape[:2], device=source.device)  # (B,K) sums of log p
    attention: Tensor | None = None  # (B,K,S) sums, where watched
    penalties = scores  # (B,K) for what is not covered
    while open_sentences:
        logits, state = model.step(tokens[:, :, -1], state)
        if state.attention is not None:
            seen = state.attention
            attention = seen if attention is None else attention + seen
            penalties = scoring.coverage(attention, source_lengths)
        candidates = _best_continuations(logits, scores, 2 * beam_size)
        del logits  # so that the next step's take the same memory, warm in the cache
        own = [sentences[i] for i in open_sentences]
        _collect(candidates, tokens, penalties, end_id, beam_size, scoring, own)
        tokens, scores, parents = _continue(candidates, tokens, end_id, beam_size)
        state = state.reorder(parents)
        penalties = penalties.gather(1, parents)
        if attention is not None:
            places = parents[:, :, None].expand(-1, -1, attention.shape[2])
            attention = attention.gather(1, places)
        is_open = _still_open(tokens, scores, penalties, beam_size, n_best, scoring, own)
        if all(is_open):
            continue
        scores[~torch.tensor(is_open)] = float("-inf")  # nothing more comes of those that are kept
        kept = rows_to_keep(is_open)
        if len(kept) < len(is_open):
            rows = torch.tensor(kept, device=source.device, dtype=torch.long)
            open_sentences = [open_sentences[row] for row in kept]
            tokens, scores, state = tokens[rows], scores[rows], state.keep(rows)
            penalties, source_lengths = penalties[rows], source_lengths[rows]
            attention = None if attention is None else attention[rows]
    return [sentence.found or [NOTHING] for sentence in sentences]


@dataclass(frozen=True)
class _Candidates:
    """The best continuations of each sentence, best first; C of them."""

    scores: Tensor  # (B,C)
    ids: Tensor  # (B,C) the token to add
    parents: Tensor  # (B,C) to which hypothesis


def _best_continuations(logits: Tensor, scores: Tensor, count: int) -> _Candidates:
    logits = logits.float()
    # over them on a CPU, to whose cache memory that is new every step is far away
    gains = torch.log_softmax(logits, dim=2, out=logits if logits.is_cpu else None)
    best, places = top_sums(gains, scores, count)
    vocab_size = logits.shape[2]
    return _Candidates(best, places % vocab_size, places // vocab_size)


def _collect(
    candidates: _Candidates,
    tokens: Tensor,
    penalties: Tensor,
    end_id: int,
    beam_size: int,
    scoring: Scoring,
    sentences: list[_Sentence],
) -> None:
    """Note the hypotheses that end here: those whose end mark is among the K best candidates."""
    num_tokens = tokens.shape[2]  # of the ended hypothesis: <s> left out, </s> counted
    is_ended = (candidates.ids == end_id) & (candidates.scores > float("-inf"))
    ended = is_ended[:, :beam_size].nonzero()
    if not len(ended):
        return
    rows, ranks = ended.unbind(1)
    parents = candidates.parents[rows, ranks]
    for row, history, total, penalty in zip(
        rows.tolist(),
        tokens[rows, parents, 1:].tolist(),
        candidates.scores[rows, ranks].tolist(),
        penalties[rows, parents].tolist(),
        strict=True,
    ):
        score = scoring.score(total, num_tokens, penalty)
        sentences[row].add(Hypothesis(history, score), beam_size)


def _continue(
    candidates: _Candidates, tokens: Tensor, end_id: int, beam_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return tokens (B,K,1+t), scores (B,K) and parents (B,K) of the K best that go on, best first;
    where fewer do, the others score -inf."""
    going_on = candidates.scores.masked_fill(candidates.ids == end_id, float("-inf"))
    scores, chosen = going_on.topk(min(beam_size, going_on.shape[1]), dim=1)
    parents = candidates.parents.gather(1, chosen)
    histories = tokens.gather(1, parents[:, :, None].expand(-1, -1, tokens.shape[2]))
    new = candidates.ids.gather(1, chosen)
    return torch.cat([histories, new[:, :, None]], dim=2), scores, parents


def _still_open(
    tokens: Tensor,
    scores: Tensor,
    penalties: Tensor,
    beam_size: int,
    n_best: int,
    scoring: Scoring,
    sentences: list[_Sentence],
) -> list[bool]:
    """Tell which sentences go on; cut off the hypotheses of those at their length limit."""
    length = tokens.shape[2] - 1
    best = scores[:, 0].tolist()
    is_open = []
    for row, sentence in enumerate(sentences):
        at_limit = length >= sentence.limit
        if at_limit and len(sentence.found) < beam_size:
            for history, total, penalty in zip(
                tokens[row, :, 1:].tolist(),
                scores[row].tolist(),
                penalties[row].tolist(),
                strict=True,
            ):
                if total > float("-inf"):
                    score = scoring.score(total, length, penalty)
                    sentence.add(Hypothesis(history, score, cut_off=True), beam_size)
        is_done = sentence.is_done(best[row], length, beam_size, n_best, scoring)
        is_stuck = best[row] == float("-inf")
        is_open.append(not (at_limit or is_done or is_stuck))
    return is_open

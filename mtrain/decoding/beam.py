"""Beam search over the model contract; for a beam of one see greedy.py.

Shapes: B sentences still searched, K hypotheses each, t tokens so far, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mtrain.decoding.hypothesis import NO_HYPOTHESIS, Doubles, Hypothesis, Scoring
from mtrain.decoding.row_selection import rows_to_keep
from mtrain.decoding.top import top_sums
from mtrain.models.base import TranslationModel

# above it a hypothesis can win by becoming much longer, so that a look-ahead cannot tell
MOST_PENALTY_SETTLED = 1.0


class _FoundSoFar:
    """What has been found for the sentences still searched, a row each, best first."""

    def __init__(
        self, limits: Sequence[int], beam_size: int, n_best: int, scoring: Scoring
    ) -> None:
        self.hypotheses: list[list[Hypothesis]] = [[] for _ in limits]
        self.limits = np.array(limits)  # (B,) most tokens before the end mark
        # (B,) scores of what comes last of a full beam, and last of what is asked for
        self.worst, self.needed = np.full((2, len(limits)), -np.inf)
        self._beam_size = beam_size
        self._n_best = n_best
        self._scoring = scoring

    def add(self, row: int, hypothesis: Hypothesis) -> None:
        """Note a hypothesis, unless there are as many better ones as the beam holds."""
        found = self.hypotheses[row]
        found.append(hypothesis)
        found.sort(key=lambda found: (found.cut_off, -found.score))
        del found[self._beam_size :]
        if len(found) == self._beam_size:
            self.worst[row] = found[-1].score
        if len(found) >= self._n_best:
            self.needed[row] = found[self._n_best - 1].score

    def is_full(self) -> npt.NDArray[np.bool_]:
        """Tell which beams (B,) have found as many as they hold."""
        return self.worst > -np.inf

    def is_done(self, best_open: Doubles, length: int) -> npt.NDArray[np.bool_]:
        """Tell for which sentences (B,) what is open, all of `length` tokens, is given up."""
        # the coverage penalty can only lower an open hypothesis, and is left out
        score = self._scoring.score
        is_done: npt.NDArray[np.bool_] = self.worst >= score(best_open, length + 1)
        if self._scoring.length_penalty <= MOST_PENALTY_SETTLED:
            is_done |= self.needed >= score(best_open, length + look_ahead(length))
        return is_done

    def keep(self, rows: list[int]) -> None:
        """Keep only some rows."""
        self.hypotheses = [self.hypotheses[row] for row in rows]
        self.limits, self.worst, self.needed = (
            part[rows] for part in (self.limits, self.worst, self.needed)
        )


def look_ahead(length: int) -> int:
    """Return how many tokens an open hypothesis may still gain at zero cost, for early stopping.

    As few as leave the translations as they are: with 4 alone none of 1,014 sentences changed, by
    four models (with 3 five did, with 1 204).
    """
    return max(4, length // 3)


def beam_search(
    model: TranslationModel,
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
    A sentence is done once K of its hypotheses are ahead of every open one, length considered, or
    `n_best` of them are ahead even if those gain `look_ahead` tokens at zero cost.
    Raises `UserError` where coverage is to be penalised and the model has no attention.
    """
    bos_id, eos_id = marks
    found = _FoundSoFar(limits, beam_size, n_best, scoring)
    results = found.hypotheses  # of all sentences, also of those no longer searched
    watched = scoring.watched if scoring.coverage_penalty else None
    state = model.encode(source, source_lengths, watched)
    tokens = source.new_full((len(limits), 1, 1), bos_id)  # (B,K,1+t)
    scores = torch.zeros(tokens.shape[:2], device=source.device)  # (B,K) sums of log p
    attention: Tensor | None = None  # (B,K,S) sums, where watched
    penalties = scores  # (B,K) for what is not covered
    while found.hypotheses:
        logits, state = model.step(tokens[:, :, -1], state)
        if state.attention is not None:
            seen = state.attention
            attention = seen if attention is None else attention + seen
            penalties = scoring.coverage(attention, source_lengths)
        candidates = _best_continuations(logits, scores, 2 * beam_size)
        del logits  # so that the next step's take the same memory, warm in the cache
        _collect(candidates, tokens, penalties, eos_id, beam_size, scoring, found)
        tokens, scores, parents = _continue(candidates, tokens, eos_id, beam_size)
        state = state.reorder(parents)
        penalties = penalties.gather(1, parents)
        if attention is not None:
            places = parents[:, :, None].expand(-1, -1, attention.shape[2])
            attention = attention.gather(1, places)
        is_open = _still_open(tokens, scores, penalties, scoring, found)
        if all(is_open):
            continue
        scores[~torch.tensor(is_open)] = float("-inf")  # nothing more comes of those that are kept
        kept = rows_to_keep(is_open)
        if len(kept) < len(is_open):
            rows = torch.tensor(kept, device=source.device, dtype=torch.long)
            found.keep(kept)
            tokens, scores, state = tokens[rows], scores[rows], state.keep(rows)
            penalties, source_lengths = penalties[rows], source_lengths[rows]
            attention = None if attention is None else attention[rows]
    return [hypotheses or [NO_HYPOTHESIS] for hypotheses in results]


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
    eos_id: int,
    beam_size: int,
    scoring: Scoring,
    found: _FoundSoFar,
) -> None:
    """Note the hypotheses that end here: those whose end mark is among the K best candidates."""
    num_tokens = tokens.shape[2]  # of the ended hypothesis: <s> left out, </s> counted
    is_ended = (candidates.ids == eos_id) & (candidates.scores > float("-inf"))
    rows, ranks = is_ended[:, :beam_size].nonzero().unbind(1)
    if not len(rows):
        return
    parents = candidates.parents[rows, ranks]
    totals, penalty = candidates.scores[rows, ranks], penalties[rows, parents]
    scores = scoring.score(_numbers(totals), num_tokens) + _numbers(penalty)
    for row, history, score in zip(
        rows.tolist(), tokens[rows, parents, 1:].tolist(), scores.tolist(), strict=True
    ):
        if score > found.worst[row]:
            found.add(row, Hypothesis(history, score))


def _continue(
    candidates: _Candidates, tokens: Tensor, eos_id: int, beam_size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return tokens (B,K,1+t), scores (B,K) and parents (B,K) of the K best that go on, best first;
    where fewer do, the others score -inf."""
    going_on = candidates.scores.masked_fill(candidates.ids == eos_id, float("-inf"))
    scores, chosen = going_on.topk(min(beam_size, going_on.shape[1]), dim=1)
    parents = candidates.parents.gather(1, chosen)
    histories = tokens.gather(1, parents[:, :, None].expand(-1, -1, tokens.shape[2]))
    new = candidates.ids.gather(1, chosen)
    return torch.cat([histories, new[:, :, None]], dim=2), scores, parents


def _still_open(
    tokens: Tensor, scores: Tensor, penalties: Tensor, scoring: Scoring, found: _FoundSoFar
) -> list[bool]:
    """Tell which sentences go on; cut off the hypotheses of those at their length limit."""
    length = tokens.shape[2] - 1
    best = _numbers(scores[:, 0])
    at_limit = length >= found.limits
    (rows,) = np.nonzero(at_limit & ~found.is_full())
    if len(rows):
        cut = torch.from_numpy(rows).to(tokens.device)
        totals = _numbers(scores[cut])
        cut_scores = scoring.score(totals, length) + _numbers(penalties[cut])
        for row, histories, own in zip(
            rows.tolist(), tokens[cut, :, 1:].tolist(), cut_scores, strict=True
        ):
            for history, score in zip(histories, own.tolist(), strict=True):
                if score > float("-inf"):
                    found.add(row, Hypothesis(history, score, cut_off=True))
    is_closed = at_limit | found.is_done(best, length) | (best == -np.inf)
    is_open: list[bool] = (~is_closed).tolist()
    return is_open


def _numbers(tensor: Tensor) -> Doubles:
    numbers: Doubles = tensor.double().cpu().numpy()
    return numbers

"""Compares what another program makes of an exported BERT with what the model makes of it.

On the same ids, some of them masked: the last layer's states, and the log probabilities of some
pieces at each masked place. And the ids that it reads in the same lines.

Shapes: L tokens of a line with its marks, D width, K masked tokens, C candidates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtrain.console import warn
from mtrain.data.batch import MaskedBatch
from mtrain.data.makers.packed import NO_SENTENCE
from mtrain.errors import UserError
from mtrain.exchange.comparison import AT_ONCE, TOLERANCE, Ids
from mtrain.models.bert import Bert
from mtrain.text.tokenizer import Tokenizer

EVERY = 6  # one token of so many is masked
NUM_CANDIDATES = 10  # pieces to compare at a masked place
MOST_OTHER_IDS = 0.01  # share of lines that the other program may split in another way


@dataclass(frozen=True)
class MaskedSample:
    """Lines, and what the model here predicts where some of their tokens are masked."""

    lines: list[str]
    ids: list[Ids]  # with the marks around a text
    masked_ids: list[Ids]
    places: list[list[int]]  # of the masked tokens
    candidates: list[list[Ids]]  # (K,C) the likeliest pieces at each place
    states: list[Tensor]  # (L,D)
    log_probabilities: list[Tensor]  # (K,C)


@dataclass(frozen=True)
class MaskedReplay:
    """The same by another program; no log probabilities of a model without a head."""

    program: str
    ids: list[Ids]  # of the lines as it splits them
    states: list[Tensor]
    log_probabilities: list[Tensor]


@torch.inference_mode()
def masked_sample(
    model: Bert, tokenizer: Tokenizer, lines: Sequence[str], has_head: bool
) -> MaskedSample:
    """Return what the model makes of the lines that have full attention and contain no mark.

    Marks are text here, and marks for other programs. Without a head nothing is masked.
    """
    marks = set(tokenizer.written_marks.values())
    marks |= {tokenizer.pieces([tokenizer.mask_id])[0]} if has_head else set()
    read, ids = [], []
    for line, row in zip(lines, tokenizer.encode(lines), strict=True):
        if 0 < len(row) < model.full_up_to and not any(mark in line for mark in marks):
            read.append(line)
            ids.append([*row, tokenizer.eos_id])
    ordinary = set(tokenizer.ordinary_ids)
    places, masked_ids = [], []
    for number, row in enumerate(ids):
        known = [place for place, token in enumerate(row) if token in ordinary]
        chosen = known[number % min(EVERY, max(1, len(known))) :: EVERY] if has_head else []
        places.append(chosen)
        masked_ids.append([tokenizer.mask_id if place in chosen else token
                           for place, token in enumerate(row)])  # fmt: skip
    candidates, states, found = [], [], []
    for state, row_places in zip(_states(model, masked_ids), places, strict=True):
        logits = model.output(model.features(state[row_places])).float()
        values, likeliest = logits.log_softmax(dim=-1).topk(min(NUM_CANDIDATES, logits.shape[-1]))
        candidates.append(likeliest.tolist())
        states.append(state)
        found.append(values)
    return MaskedSample(read, ids, masked_ids, places, candidates, states, found)


def _states(model: Bert, rows: Sequence[Ids]) -> Iterator[Tensor]:
    """Yield the last layer's states (L,D) of each row."""
    device = next(model.parameters()).device
    for start in range(0, len(rows), AT_ONCE):
        few = rows[start : start + AT_ONCE]
        batch = batch_of(few).to(device)
        for row, state in zip(few, model.hidden_states(batch), strict=True):
            yield state[: len(row)].float()


def batch_of(rows: Sequence[Ids]) -> MaskedBatch:
    """Return rows of ids, each one text, as a batch in which nothing is to be predicted."""
    width = max(map(len, rows))
    tokens = torch.tensor([[*row, *[row[-1]] * (width - len(row))] for row in rows])
    lengths = torch.tensor(list(map(len, rows)))
    places = torch.arange(width).expand(len(rows), -1)
    none = torch.zeros(len(rows), 0, dtype=torch.long)
    return MaskedBatch(
        tokens=tokens,
        sentences=torch.where(places < lengths[:, None], 0, NO_SENTENCE),
        positions=places,
        masked=none,
        targets=none,
        num_target_tokens=0,
    )


def compare_masked(sample: MaskedSample, replay: MaskedReplay) -> str:
    """Return one line about the differences.

    Raises `UserError` if states or log probabilities differ, or ids in more than a few lines.
    """
    apart = [row for row, pair in enumerate(zip(sample.ids, replay.ids, strict=True))
             if pair[0] != pair[1]]  # fmt: skip
    if apart:
        row = apart[0]
        told = f"{sample.lines[row]!r} has the ids {replay.ids[row]} instead of {sample.ids[row]}"
        if len(apart) > MOST_OTHER_IDS * len(sample.ids):
            raise _differs(replay, told)
        others = f"{len(apart)} of {len(sample.ids)} lines"
        warn(f"{replay.program} splits {others} in another way: {told}")
    states = _largest(sample.states, replay.states)
    told = f"hidden states differ by {states:.1g} at most"
    differences = [states]
    if replay.log_probabilities:
        values = _largest(sample.log_probabilities, replay.log_probabilities)
        num_masked = sum(map(len, sample.places))
        told += f", log probabilities of {num_masked} masked tokens by {values:.1g}"
        differences.append(values)
    if not all(value <= TOLERANCE for value in differences):  # NaN is not
        raise _differs(replay, told)
    alike = "ids are the same" if not apart else f"ids of {len(apart)} lines differ"
    return f"{replay.program} in fp32 on {len(sample.lines)} lines: {alike}; {told}"


def _largest(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> float:
    pairs = zip(ours, theirs, strict=True)
    gaps = [(one - other).abs().max() for one, other in pairs if one.numel()]
    return float(torch.stack(gaps).max()) if gaps else 0.0  # NaN if one is


def _differs(replay: MaskedReplay, how: str) -> UserError:
    return UserError(
        f"{replay.program} does not compute what the model does: {how}",
        "nothing was written; please report this with the model's configuration",
    )

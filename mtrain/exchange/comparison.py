"""Compares what another program makes of an export with what the model makes of the same lines.

Shapes: T target tokens, the end mark included.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch

from mtrain.data.makers.padded import pad_pairs
from mtrain.errors import UserError
from mtrain.models import TranslationModel
from mtrain.text.tokenizer import TokenizerPair

Ids = list[int]  # of one line, without marks
TIE = 1e-4  # largest difference of two log probabilities, a token, that count as equal
AT_ONCE = 16  # lines a batch


@dataclass(frozen=True)
class Output:
    """The best translation of a line by one search."""

    ids: Ids
    text: str


@dataclass(frozen=True)
class Sample:
    """Lines and their translations by the model that was exported, none of them cut off."""

    lines: list[str]
    sources: list[Ids]
    greedy: list[Output]
    beam: list[Output]

    @property
    def max_new_tokens(self) -> int:
        """A length that no output reaches."""
        return 2 + max(len(output.ids) for output in (*self.greedy, *self.beam))


@dataclass(frozen=True)
class Replay:
    """The same by another program, and its log probabilities (T) of the sample's greedy outputs."""

    program: str
    sources: list[Ids]
    greedy: list[Output]
    beam: list[Output]
    log_probabilities: list[list[float]]


@torch.inference_mode()
def log_probabilities(
    model: TranslationModel, tokenizers: TokenizerPair, pairs: Sequence[tuple[Ids, Ids]]
) -> list[list[float]]:
    """Return the log probabilities (T) of the target tokens of each pair."""
    device = next(model.parameters()).device
    found = []
    for start in range(0, len(pairs), AT_ONCE):
        few = pairs[start : start + AT_ONCE]
        batch = pad_pairs(few, tokenizers).to(device)
        every = model.logits(batch).float().log_softmax(dim=-1)
        rows = every.gather(2, batch.target_out[:, :, None])[:, :, 0].tolist()
        found += [row[: len(target) + 1] for row, (_, target) in zip(rows, few, strict=True)]
    return found


def compare(
    model: TranslationModel,
    tokenizers: TokenizerPair,
    sample: Sample,
    replay: Replay,
    length_penalty: float,
    tolerance: float,
) -> str:
    """Return one line about the differences.

    Raises `UserError` if ids differ, or a log probability by more than `tolerance`, or a greedy
    output other than at a tie. Outputs of beam search may differ, as programs stop it by other
    rules; they are counted.
    """
    name = replay.program
    for line, ours, theirs in zip(sample.lines, sample.sources, replay.sources, strict=True):
        if ours != theirs:
            raise _differs(name, f"{line!r} has the ids {theirs} instead of {ours}")
    pairs = list(zip(sample.sources, (output.ids for output in sample.greedy), strict=True))
    expected = log_probabilities(model, tokenizers, pairs)
    largest = max(
        abs(ours - theirs)
        for ours, theirs in zip(
            chain.from_iterable(expected),
            chain.from_iterable(replay.log_probabilities),
            strict=True,
        )
    )
    if not largest <= tolerance:
        raise _differs(name, f"a log probability differs by {largest:.2g}")

    def counts(own: list[Output], others: list[Output]) -> tuple[int, int, list[int]]:
        unlike = [row for row, (one, other) in enumerate(zip(own, others, strict=True))
                  if one.text != other.text]  # fmt: skip
        scores = [
            [sum(tokens) / len(tokens) ** length_penalty
             for tokens in log_probabilities(
                 model, tokenizers, [(sample.sources[row], side[row].ids) for row in unlike])]
            for side in (own, others)
        ]  # fmt: skip
        is_tie = [abs(one - other) <= TIE for one, other in zip(*scores, strict=True)]
        apart = [row for row, tied in zip(unlike, is_tie, strict=True) if not tied]
        return len(own) - len(unlike), sum(is_tie), apart

    same, tied, apart = counts(sample.greedy, replay.greedy)
    if apart:
        row = apart[0]
        raise _differs(
            name,
            f"{sample.lines[row]!r} becomes {replay.greedy[row].text!r} "
            f"instead of {sample.greedy[row].text!r} by greedy search",
        )
    beam_same, beam_tied, beam_apart = counts(sample.beam, replay.beam)
    return (
        f"{name} translates {len(sample.lines)} lines as mtrain does: greedily {same} alike and "
        f"{tied} ties; by beam search {beam_same} alike, {beam_tied} ties, {len(beam_apart)} apart "
        f"by another stopping rule; log probabilities differ by at most {largest:.1g}"
    )


def _differs(program: str, how: str) -> UserError:
    return UserError(
        f"{program} does not compute what the model does: {how}",
        "nothing was written; please report this with the configuration of the run",
    )

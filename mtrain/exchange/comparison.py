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
TOLERANCE = 1e-4  # largest difference of log probabilities, or of scores, that counts as none
MEAN_TOLERANCES = {"fp16": 0.05, "int8": 0.2}  # largest mean difference of log probabilities
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


@dataclass(frozen=True)
class Comparison:
    """Compares a replay with the sample; `weights` is the export's number format."""

    model: TranslationModel
    tokenizers: TokenizerPair
    sample: Sample
    replay: Replay
    length_penalty: float
    weights: str = "fp32"

    def report(self) -> str:
        """Return one line about the differences.

        Raises `UserError` if ids differ, or log probabilities by more than the number format
        explains, or in fp32 a greedy output other than at a tie. Outputs of beam search may differ,
        as programs stop it by other rules.
        """
        self._check_ids()
        difference = self._check_log_probabilities()
        greedy, beam = (
            self._count(own, others)
            for own, others in ((self.sample.greedy, self.replay.greedy),
                                (self.sample.beam, self.replay.beam))
        )  # fmt: skip
        if self.weights == "fp32" and greedy.apart:
            row = greedy.apart[0]
            raise self._differs(
                f"{self.sample.lines[row]!r} becomes {self.replay.greedy[row].text!r} "
                f"instead of {self.sample.greedy[row].text!r} by greedy search"
            )
        return (
            f"{self.replay.program} in {self.weights} on {len(self.sample.lines)} lines: "
            f"greedy search {greedy}; beam search {beam}; {difference}"
        )

    def _check_ids(self) -> None:
        sample, replay = self.sample, self.replay
        for line, ours, theirs in zip(sample.lines, sample.sources, replay.sources, strict=True):
            if ours != theirs:
                raise self._differs(f"{line!r} has the ids {theirs} instead of {ours}")

    def _check_log_probabilities(self) -> str:
        targets = [output.ids for output in self.sample.greedy]
        pairs = list(zip(self.sample.sources, targets, strict=True))
        ours = log_probabilities(self.model, self.tokenizers, pairs)
        both = zip(*map(chain.from_iterable, (ours, self.replay.log_probabilities)), strict=True)
        differences = [abs(one - other) for one, other in both]
        mean, largest = sum(differences) / len(differences), max(differences)
        found = f"log probabilities differ by {mean:.1g} on average and {largest:.1g} at most"
        limit = MEAN_TOLERANCES.get(self.weights)
        if not (largest <= TOLERANCE if limit is None else mean <= limit):
            raise self._differs(found)
        return found

    def _count(self, own: Sequence[Output], others: Sequence[Output]) -> "_Counts":
        unlike = [row for row, (one, other) in enumerate(zip(own, others, strict=True))
                  if one.text != other.text]  # fmt: skip
        scores = [self._scores(unlike, side) for side in (own, others)]
        is_tie = [abs(one - other) <= TOLERANCE for one, other in zip(*scores, strict=True)]
        apart = [row for row, tied in zip(unlike, is_tie, strict=True) if not tied]
        return _Counts(len(own) - len(unlike), sum(is_tie), apart)

    def _scores(self, rows: Sequence[int], outputs: Sequence[Output]) -> list[float]:
        pairs = [(self.sample.sources[row], outputs[row].ids) for row in rows]
        found = log_probabilities(self.model, self.tokenizers, pairs)
        return [sum(tokens) / len(tokens) ** self.length_penalty for tokens in found]

    def _differs(self, how: str) -> UserError:
        return UserError(
            f"{self.replay.program} does not compute what the model does: {how}",
            "nothing was written; please report this with the configuration of the run",
        )


@dataclass(frozen=True)
class _Counts:
    """How many outputs are alike, how many have the same score, and the rows of the others."""

    alike: int
    ties: int
    apart: list[int]

    def __str__(self) -> str:
        return f"{self.alike} alike, {self.ties} of equal score, {len(self.apart)} others"

"""Compares what another program makes of an export with what the model makes of the same lines.

Shapes: T target tokens, the end mark included.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain, zip_longest
from typing import Any

import torch

from mtrain.data.makers.padded import pad_pairs
from mtrain.errors import UserError
from mtrain.models import TranslationModel
from mtrain.text.tokenizer import TokenizerPair

Ids = list[int]  # of one line, without marks
TOLERANCE = 1e-4  # largest difference of log probabilities, or of scores, that counts as none
MEAN_TOLERANCES = {"fp16": 0.05, "int8": 0.2}  # largest mean difference of log probabilities
# on AMD's processors CTranslate2 multiplies eight bits with oneDNN
EIGHT_BITS = (
    "on an AMD processor without VNNI, CT2_USE_MKL=1 in the environment makes eight bits more "
    "exact, and slower"
)
AT_ONCE = 16  # lines a batch


@dataclass(frozen=True)
class Output:
    """The best translation of a line by one search."""

    ids: Ids
    text: str
    is_cut_off: bool = False


@dataclass(frozen=True)
class Sample:
    """Lines and their translations by the model here."""

    lines: list[str]
    sources: list[Ids]
    greedy: list[Output]
    beam: list[Output]

    @property
    def max_new_tokens(self) -> int:
        """A length at which none is cut off before it is here; the last may be forced to end."""
        outputs = (*self.greedy, *self.beam)
        return max(len(output.ids) + (1 if output.is_cut_off else 2) for output in outputs)


@dataclass(frozen=True)
class Replay:
    """The same by another program, and its log probabilities (T) of the sample's greedy outputs."""

    program: str
    sources: list[Ids]
    greedy: list[Output]
    beam: list[Output]
    log_probabilities: list[list[float]]


def without_unknown(sample: Sample, replay: Replay, unknown_id: int) -> tuple[Sample, Replay]:
    """Drop the lines with a piece that only the other program lacks."""
    rows = [
        row
        for row, (ours, theirs) in enumerate(zip(sample.sources, replay.sources, strict=True))
        if unknown_id in ours or unknown_id not in theirs
    ]

    def kept(compared: Any) -> Any:
        values = {field.name: getattr(compared, field.name) for field in fields(compared)}
        lists = {name: value for name, value in values.items() if isinstance(value, list)}
        shorter = {name: [value[row] for row in rows] for name, value in lists.items()}
        return replace(compared, **shorter)

    return kept(sample), kept(replay)


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

        Raises `UserError` if source ids or decoded text differ, or log probabilities by more than
        the number format explains, or in fp32 a greedy output other than at a tie. Outputs of beam
        search may differ, as programs stop it by other rules.
        """
        self._check_ids()
        difference = self._check_log_probabilities()
        greedy = self._count(self.sample.greedy, self.replay.greedy, self._gap_where_they_part)
        beam = self._count(self.sample.beam, self.replay.beam, self._gap_of_scores)
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

    def _count(
        self,
        own: Sequence[Output],
        others: Sequence[Output],
        gap: Callable[[Ids, Ids, Ids], float],
    ) -> "_Counts":
        """Count outputs by their ids; `gap` takes those of the source and of both outputs.

        An output that was cut off is compared as far as it goes.
        """
        alike, ties, apart = 0, 0, []
        for row, (one, whole) in enumerate(zip(own, others, strict=True)):
            other = replace(whole, ids=whole.ids[: len(one.ids)]) if one.is_cut_off else whole
            if one.ids == other.ids and one.is_cut_off:
                alike += 1
            elif one.ids == other.ids:
                is_whole = self.tokenizers.target.unknown_id not in one.ids  # others leave it out
                if is_whole and one.text.strip() != other.text.strip():
                    raise self._differs(f"it writes {other.text!r} instead of {one.text!r}")
                alike += 1
            elif gap(self.sample.sources[row], one.ids, other.ids) <= TOLERANCE:
                ties += 1
            else:
                apart.append(row)
        return _Counts(alike, ties, apart)

    def _gap_where_they_part(self, source: Ids, one: Ids, other: Ids) -> float:
        """Return the difference in log probability of the first tokens that differ."""
        place = next(n for n, (a, b) in enumerate(zip_longest(one, other)) if a != b)
        first, second = self._log_probabilities(source, one, other)
        return abs(first[place] - second[place])

    def _gap_of_scores(self, source: Ids, one: Ids, other: Ids) -> float:
        """Return the difference of the two scores."""
        first, second = self._log_probabilities(source, one, other)
        return abs(self._score(first) - self._score(second))

    def _score(self, tokens: list[float]) -> float:
        tokens = tokens[len(self.tokenizers.target.prefix) :]
        length: float = len(tokens) ** self.length_penalty
        return sum(tokens) / length

    def _log_probabilities(self, source: Ids, *targets: Ids) -> list[list[float]]:
        pairs = [(source, target) for target in targets]
        return log_probabilities(self.model, self.tokenizers, pairs)

    def _differs(self, how: str) -> UserError:
        please = "please report this with the model's configuration"
        mend = EIGHT_BITS if self.weights == "int8" else please
        return UserError(
            f"{self.replay.program} does not compute what the model does: {how}",
            f"nothing was written; {mend}",
        )


@dataclass(frozen=True)
class _Counts:
    """How many outputs are alike, how many have the same score, and the rows of the others."""

    alike: int
    ties: int
    apart: list[int]

    def __str__(self) -> str:
        return f"{self.alike} alike, {self.ties} of equal score, {len(self.apart)} others"

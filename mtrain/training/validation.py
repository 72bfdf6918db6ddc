"""Validation: dev loss, and dev BLEU and chrF with the search that `translate` uses.

Scores valid, which steers training, and the watch sets, which steer nothing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import Any

import torch

from mtrain.config.corpora import Languages
from mtrain.data.batch import Batch
from mtrain.data.makers.padded import BatchMaker
from mtrain.data.store import IntArray
from mtrain.decoding.translator import Translator
from mtrain.distributed.group import ProcessGroup
from mtrain.evaluation.metrics import bleu_and_chrf
from mtrain.models.base import Model
from mtrain.text.lines import decode_line
from mtrain.training.objectives import Objective


@dataclass(frozen=True)
class Scores:
    """Results on one set; BLEU and chrF are means over its directions."""

    loss: float  # negative log likelihood per target token, without smoothing
    bleu: float
    chrf: float
    # by direction, as en-de, if there are several: bleu and chrf
    directions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)  # by corpus, if there are several

    def figures(self) -> dict[str, Any]:
        """Return the results as a dictionary without empty entries."""
        return {key: value for key, value in asdict(self).items() if value != {}}

    def __str__(self) -> str:
        told = f"BLEU {self.bleu:.2f}"
        if self.directions:
            each = ", ".join(
                f"{name} {scores['bleu']:.2f}" for name, scores in self.directions.items()
            )
            told += f" (mean of {each})"
        return told


@dataclass(frozen=True)
class Validation(Scores):
    """Results on valid, and on each watch set by name."""

    watch: Mapping[str, Scores] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the results as a dictionary, for the log and the checkpoint."""
        watch = {name: scores.figures() for name, scores in self.watch.items()}
        return super().figures() | ({"watch": watch} if watch else {})

    @staticmethod
    def from_dict(figures: Mapping[str, Any]) -> "Validation":
        """Return the validation that `as_dict` was called on."""
        watch = {name: Scores(**scores) for name, scores in figures.get("watch", {}).items()}
        return Validation(**{**figures, "watch": watch})

    def __str__(self) -> str:
        perplexity = math.exp(min(self.loss, 50.0))
        return (
            f"dev loss {self.loss:.3f} (perplexity {perplexity:.1f}), "
            f"{super().__str__()}, chrF {self.chrf:.2f}"
        ) + "".join(
            f"; watch {name}: loss {scores.loss:.3f}, {scores}"
            for name, scores in self.watch.items()
        )


@dataclass(frozen=True)
class ScoredPart:
    """The lines of one corpus of a set, in one direction."""

    corpus: str
    languages: Languages
    sources: Sequence[bytes]
    references: Sequence[bytes]
    rows: IntArray  # its pairs in the token store
    translator: Callable[[], AbstractContextManager[Translator]]  # with the present weights


class SetScorer:
    """Scores a model on one set; several processes share its sentences."""

    def __init__(
        self,
        maker: BatchMaker,
        parts: Sequence[ScoredPart],
        objective: Objective,
        device: torch.device,
    ) -> None:
        self._maker = maker
        self._parts = parts
        self._objective = objective
        self._device = device
        self._plans = [maker.plan_in_order(part.rows) for part in parts]
        self._directions: dict[Languages, list[int]] = {}  # the numbers of its parts
        for number, part in enumerate(parts):
            self._directions.setdefault(part.languages, []).append(number)
        self._references = [[decode_line(line)[0] for line in part.references] for part in parts]
        self.hypotheses: list[str] = []  # the last ones, of all parts and processes

    def __len__(self) -> int:
        return sum(len(part.sources) for part in self._parts)

    def score(
        self, model: Model, on_progress: Callable[[int], None], group: ProcessGroup
    ) -> Scores:
        """Return the results, the same on every process of the group.

        `on_progress` gets the count of newly translated sentences, and may raise to stop.
        """
        model.eval()
        loss, losses = self._loss(model, group, _as_it_is)
        hypotheses = []
        for part in self._parts:
            own = part.sources[group.rank :: group.size]
            with part.translator() as translator:
                translations = translator.translate(own, on_progress) if own else []
            hypotheses.append(group.gather([found.texts[0] for found in translations]))
        self.hypotheses = list(chain.from_iterable(hypotheses))
        scores = {}
        for languages, numbers in self._directions.items():
            said, wanted = (list(chain.from_iterable(side[number] for number in numbers))
                            for side in (hypotheses, self._references))  # fmt: skip
            scores["-".join(languages)] = bleu_and_chrf(said, wanted, languages[1])
        bleu, chrf = (sum(each) / len(scores) for each in zip(*scores.values(), strict=True))
        directions = {name: {"bleu": both[0], "chrf": both[1]} for name, both in scores.items()}
        return Scores(
            loss,
            bleu,
            chrf,
            directions if len(scores) > 1 else {},
            losses if len(self._parts) > 1 else {},
        )

    def translate_some(self, model: Model, num_sentences: int) -> float:
        """Translate the first sentences, for timing; return their share of all sentences."""
        part = self._parts[0]
        chosen = part.sources[:num_sentences]
        model.eval()
        with part.translator() as translator:
            translator.translate(chosen)
        return len(chosen) / len(self)

    def loss_with_wrong_sources(self, model: Model, group: ProcessGroup) -> float:
        """Return the loss per token given the source of another sentence of the batch."""
        model.eval()
        return self._loss(model, group, _with_wrong_sources)[0]

    @torch.inference_mode()
    def _loss(
        self, model: Model, group: ProcessGroup, changed: Callable[[Batch], Batch]
    ) -> tuple[float, dict[str, float]]:
        """Return the loss per token, and that of each corpus that has pairs."""
        totals: dict[str, tuple[float, int]] = {}
        for part, plan in zip(self._parts, self._plans, strict=True):
            own = []
            for rows in plan[group.rank :: group.size]:
                batch = changed(self._maker.make(rows)).to(self._device)
                own.append((float(self._objective(model, batch).nll), batch.num_target_tokens))
            # in plan order, so that the sum does not depend on the number of processes
            nll, tokens = totals.get(part.corpus, (0.0, 0))
            for of_batch, num_tokens in group.gather(own):
                nll, tokens = nll + of_batch, tokens + num_tokens
            totals[part.corpus] = nll, tokens
        losses = {corpus: nll / tokens for corpus, (nll, tokens) in totals.items() if tokens}
        nll, tokens = (sum(each) for each in zip(*totals.values(), strict=True))
        return nll / tokens, losses


class Validator:
    """Scores a model on valid, then on each watch set."""

    def __init__(self, valid: SetScorer, watch: Mapping[str, SetScorer]) -> None:
        self.valid = valid
        self.watch = watch

    def __len__(self) -> int:
        return sum(map(len, (self.valid, *self.watch.values())))

    def validate(
        self, model: Model, on_progress: Callable[[int], None], group: ProcessGroup
    ) -> Validation:
        """Return the results, the same on every process of the group.

        `on_progress` gets the count of newly translated sentences, and may raise to stop.
        """
        steering = self.valid.score(model, on_progress, group)
        watch = {name: scorer.score(model, on_progress, group)
                 for name, scorer in self.watch.items()}  # fmt: skip
        return Validation(**vars(steering), watch=watch)


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _with_wrong_sources(batch: Batch) -> Batch:
    """Give each sentence the source of the next one."""
    return replace(
        batch,
        source=batch.source.roll(1, 0),
        source_lengths=batch.source_lengths.roll(1),
        links=None,
    )

"""Validation: dev loss, and dev BLEU and chrF with the search that `translate` uses.

Scores valid, which steers training, and the watch sets, which steer nothing.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from mtrain.data.batch import Batch
from mtrain.data.folders import HeldOutText
from mtrain.data.makers.padded import BatchMaker
from mtrain.decoding.translator import Translator
from mtrain.distributed.group import ProcessGroup
from mtrain.evaluation.metrics import bleu_and_chrf
from mtrain.models.base import Model
from mtrain.text.lines import decode_line
from mtrain.training.objectives import Objective


@dataclass(frozen=True)
class Scores:
    """Results on one set."""

    loss: float  # negative log likelihood per target token, without smoothing
    bleu: float
    chrf: float


@dataclass(frozen=True)
class Validation(Scores):
    """Results on valid, and on each watch set by name."""

    watch: Mapping[str, Scores] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the results as a dictionary, for the log and the checkpoint."""
        figures = asdict(self)
        if not self.watch:
            del figures["watch"]
        return figures

    @staticmethod
    def from_dict(figures: Mapping[str, Any]) -> "Validation":
        """Return the validation that `as_dict` was called on."""
        watch = {name: Scores(**scores) for name, scores in figures.get("watch", {}).items()}
        return Validation(**{**figures, "watch": watch})

    def __str__(self) -> str:
        perplexity = math.exp(min(self.loss, 50.0))
        return (
            f"dev loss {self.loss:.3f} (perplexity {perplexity:.1f}), "
            f"BLEU {self.bleu:.2f}, chrF {self.chrf:.2f}"
        ) + "".join(
            f"; watch {name}: loss {scores.loss:.3f}, BLEU {scores.bleu:.2f}"
            for name, scores in self.watch.items()
        )


class SetScorer:
    """Scores a model on one set; several processes share its sentences."""

    def __init__(
        self,
        maker: BatchMaker,
        text: HeldOutText,
        translator: Callable[[], AbstractContextManager[Translator]],
        objective: Objective,
        device: torch.device,
        target_lang: str,
    ) -> None:
        """Take the set; `translator` gives one with the model's present weights."""
        self._maker = maker
        self._translator = translator
        self._objective = objective
        self._device = device
        self._target_lang = target_lang
        self._plan = maker.plan_in_order()
        self._sources = text.sources
        self._references = [decode_line(line)[0] for line in text.references]
        self.hypotheses: list[str] = []  # the last ones, of all processes

    def __len__(self) -> int:
        return len(self._sources)

    def score(
        self, model: Model, on_progress: Callable[[int], None], group: ProcessGroup
    ) -> Scores:
        """Return the results, the same on every process of the group.

        `on_progress` gets the count of newly translated sentences, and may raise to stop.
        """
        model.eval()
        loss = self._loss(model, group, _as_it_is)
        own = self._sources[group.rank :: group.size]
        with self._translator() as translator:
            translations = translator.translate(own, on_progress) if own else []
        self.hypotheses = group.gather([translation.texts[0] for translation in translations])
        bleu, chrf = bleu_and_chrf(self.hypotheses, self._references, self._target_lang)
        return Scores(loss, bleu, chrf)

    def translate_some(self, model: Model, num_sentences: int) -> float:
        """Translate the first sentences, for timing; return their share of all sentences."""
        chosen = self._sources[:num_sentences]
        model.eval()
        with self._translator() as translator:
            translator.translate(chosen)
        return len(chosen) / len(self._sources)

    def loss_with_wrong_sources(self, model: Model, group: ProcessGroup) -> float:
        """Return the loss per token given the source of another sentence of the batch."""
        model.eval()
        return self._loss(model, group, _with_wrong_sources)

    @torch.inference_mode()
    def _loss(self, model: Model, group: ProcessGroup, changed: Callable[[Batch], Batch]) -> float:
        own = []
        for rows in self._plan[group.rank :: group.size]:
            batch = changed(self._maker.make(rows)).to(self._device)
            own.append((float(self._objective(model, batch).nll), batch.num_target_tokens))
        # in plan order, so that the sum does not depend on the number of processes
        sums = group.gather(own)
        return sum(nll for nll, _ in sums) / sum(tokens for _, tokens in sums)


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
        return Validation(**asdict(steering), watch=watch)


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

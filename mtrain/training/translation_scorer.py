"""Scores translations of a held-out set: dev loss, BLEU and chrF."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import chain

import torch

from mtrain.config.corpora import Languages
from mtrain.data.batch import PairBatch
from mtrain.data.makers.padded import BatchMaker
from mtrain.data.store import IntArray
from mtrain.decoding.translator import Translator
from mtrain.distributed.group import ProcessGroup
from mtrain.evaluation.diagnosis import describe_translations
from mtrain.evaluation.metrics import bleu_and_chrf
from mtrain.evaluation.scored import SetTexts
from mtrain.models.base import Model
from mtrain.text.lines import decode_lines
from mtrain.training.objectives import Objective
from mtrain.training.validation import Scorer, Scores


@dataclass(frozen=True)
class ScoredPart:
    """The lines of one corpus of a set, in one direction."""

    corpus: str
    languages: Languages
    sources: Sequence[bytes]
    references: Sequence[bytes]
    rows: IntArray  # its pairs in the token store
    translator: Callable[[], AbstractContextManager[Translator]]  # with the present weights


class TranslationScorer(Scorer):
    """Computes dev loss, and BLEU and chrF with the search that `translate` uses."""

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
        self._references = [decode_lines(part.references) for part in parts]
        # the last ones of each part, of all processes
        self._hypotheses: list[list[str]] = [[] for _ in parts]

    def __len__(self) -> int:
        return sum(len(part.sources) for part in self._parts)

    def score(
        self, model: Model, on_progress: Callable[[int], None], group: ProcessGroup
    ) -> Scores:
        model.eval()
        loss, losses = self._loss(model, group, _as_it_is)
        hypotheses = []
        for part in self._parts:
            own = part.sources[group.rank :: group.size]
            own_numbers = range(group.rank, len(part.sources), group.size)
            with part.translator() as translator:
                translations = translator.translate(own, on_progress, own_numbers) if own else []
            hypotheses.append(group.gather([found.texts[0] for found in translations]))
        self._hypotheses = hypotheses
        scores = {}
        for languages, numbers in self._directions.items():
            said, wanted = (_joined(side, numbers) for side in (hypotheses, self._references))
            scores["-".join(languages)] = bleu_and_chrf(said, wanted, languages[1])
        bleu, chrf = (sum(each) / len(scores) for each in zip(*scores.values(), strict=True))
        directions = {name: {"bleu": both[0], "chrf": both[1]} for name, both in scores.items()}
        return Scores(
            loss,
            bleu,
            chrf,
            directions=directions if len(scores) > 1 else {},
            losses=losses if len(self._parts) > 1 else {},
        )

    def score_some(self, model: Model, num_sentences: int) -> float:
        part = self._parts[0]
        chosen = part.sources[:num_sentences]
        model.eval()
        with part.translator() as translator:
            translator.translate(chosen)
        return len(chosen) / len(self)

    def diagnose(self, model: Model, scores: Scores, group: ProcessGroup) -> str | None:
        """Tell of translations that are empty, all alike or independent of the source."""
        model.eval()
        wrong, _ = self._loss(model, group, _with_wrong_sources)
        return describe_translations(
            list(chain.from_iterable(self._hypotheses)), scores.loss, wrong
        )

    def translated(self, name: str) -> list[SetTexts]:
        sources = [decode_lines(part.sources) for part in self._parts]
        return [
            SetTexts(
                name,
                languages,
                _joined(sources, numbers),
                [_joined(self._references, numbers)],
                _joined(self._hypotheses, numbers),
            )
            for languages, numbers in self._directions.items()
        ]

    @torch.inference_mode()
    def _loss(
        self, model: Model, group: ProcessGroup, changed: Callable[[PairBatch], PairBatch]
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


def _joined(parts: Sequence[Sequence[str]], numbers: Sequence[int]) -> list[str]:
    """Return the lines of some parts, one part after the other."""
    return list(chain.from_iterable(parts[number] for number in numbers))


def _as_it_is(batch: PairBatch) -> PairBatch:
    return batch


def _with_wrong_sources(batch: PairBatch) -> PairBatch:
    """Give each sentence the source of the next one."""
    of_source = "source", "source_lengths", "features", "feature_lengths"
    rolled = {name: value.roll(1, 0) for name in of_source
              if (value := getattr(batch, name)) is not None}  # fmt: skip
    return replace(batch, links=None, **rolled)

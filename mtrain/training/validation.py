"""Dev loss, and dev BLEU and chrF by the search that `translate` uses."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from mtrain.data.batches import BatchMaker
from mtrain.data.folders import HeldOutText
from mtrain.decoding.translator import Translator
from mtrain.evaluation.metrics import bleu_and_chrf
from mtrain.models.base import Model
from mtrain.text.lines import decode_line
from mtrain.training.loss import batch_loss
from mtrain.training.precision import Precision


@dataclass(frozen=True)
class Validation:
    """Figures on the valid set."""

    loss: float  # negative log likelihood per target token, without smoothing
    bleu: float
    chrf: float

    def as_dict(self) -> dict[str, Any]:
        """Return it for the log and the checkpoint."""
        return asdict(self)

    def __str__(self) -> str:
        perplexity = math.exp(min(self.loss, 50.0))
        return (
            f"dev loss {self.loss:.3f} (perplexity {perplexity:.1f}), "
            f"BLEU {self.bleu:.2f}, chrF {self.chrf:.2f}"
        )


class Validator:
    """Measures a model on the valid set."""

    def __init__(
        self,
        maker: BatchMaker,
        text: HeldOutText,
        translator: Translator,
        precision: Precision,
        target_lang: str,
    ) -> None:
        self._maker = maker
        self._translator = translator
        self._precision = precision
        self._target_lang = target_lang
        self._plan = maker.plan_in_order()
        self._sources = text.sources
        self._references = [decode_line(line)[0] for line in text.references]

    def __len__(self) -> int:
        return len(self._sources)

    def validate(self, model: Model, on_progress: Callable[[int], None]) -> Validation:
        """Return the figures; `on_progress` hears of every few sentences and may raise to stop."""
        model.eval()
        loss = self._loss(model)
        translations = self._translator.translate(self._sources, on_progress)
        hypotheses = [translation.texts[0] for translation in translations]
        bleu, chrf = bleu_and_chrf(hypotheses, self._references, self._target_lang)
        return Validation(loss, bleu, chrf)

    def validate_share(self, model: Model, num_sentences: int) -> float:
        """Translate the first sentences only, for timing; return which share of all they are."""
        chosen = self._sources[:num_sentences]
        model.eval()
        self._translator.translate(chosen)
        return len(chosen) / len(self._sources)

    @torch.inference_mode()
    def _loss(self, model: Model) -> float:
        total, num_tokens = 0.0, 0
        for rows in self._plan:
            batch = self._maker.make(rows).to(self._precision.device)
            _, nll = batch_loss(model, batch, self._precision, label_smoothing=0.0)
            total += float(nll)
            num_tokens += batch.num_target_tokens
        return total / num_tokens

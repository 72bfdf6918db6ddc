"""The contract between an architecture and everything that uses one.

Training sees `Model`. Search, scoring and alignment see `TranslationModel` and `State`. Nothing
looks behind them: an encoder that only fills masks is a `Model` and nothing more.

Shapes: B sentences, K hypotheses a sentence, S source length, T target length, D width,
V target vocabulary, N real tokens to predict. Lengths count the end mark.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtrain.data.batch import Batch, PackedBatch
from mtrain.errors import UserError
from mtrain.nn.largest import largest
from mtrain.nn.output import OutputLayer


@dataclass(frozen=True)
class Head:
    """Which of a model's attentions over the source is meant; None leaves it to the model."""

    layer: int | None = None  # of the decoder, from 1
    head: int | None = None  # from 1; None is the mean of a layer's heads


class AttentionRecord:
    """Attention weights noted on the way through a model, for the caller who made the record.

    Kinds: `encoder` and `decoder` for self-attention, `cross` for the decoder's over the source.
    """

    def __init__(self, only: tuple[str, int] | None = None) -> None:
        self._only = only  # (kind, layer from 0), where not all is wanted
        self._noted: dict[tuple[str, int], list[Tensor]] = {}

    def list_for(self, kind: str, layer: int) -> list[Tensor] | None:
        """Return where a layer (from 0) is to add its weights, or None where nobody wants them."""
        if self._only not in (None, (kind, layer)):
            return None
        return self._noted.setdefault((kind, layer), [])

    def weights(self, kind: str, layer: int) -> Tensor:
        """Return the weights of one layer, shape (B, heads, rows, columns)."""
        (weights,) = self._noted[kind, layer]
        return weights

    def by_kind(self) -> dict[str, Tensor]:
        """Return the weights of each kind, shape (B, layers, heads, rows, columns)."""
        kinds = dict.fromkeys(kind for kind, _ in self._noted)
        return {
            kind: torch.stack([w for (k, _), (w,) in self._noted.items() if k == kind], dim=1)
            for kind in kinds
        }


NO_RECORD = AttentionRecord(("", 0))  # asks for nothing


class State(ABC):
    """All that decoding needs to know of B sentences with K hypotheses each.

    A state is used up by the call that it is given to; go on with the one returned.
    """

    attention: Tensor | None = None  # (B,K,S) of the newest token, if `encode` was asked for it

    @abstractmethod
    def reorder(self, hypotheses: Tensor) -> "State":
        """Give each sentence the hypotheses (B,K'), numbers of its present ones."""

    @abstractmethod
    def keep(self, sentences: Tensor) -> "State":
        """Keep only the sentences (B',), by their numbers, in that order."""


@dataclass(frozen=True)
class Predictions:
    """What a model predicts of a batch, before the output layer, and what is right."""

    features: Tensor  # (N,D)
    targets: Tensor  # (N,) ids, or IGNORE_INDEX where there is nothing to learn
    has_static_shape: bool = False  # whether N is the same for every batch


class Model(nn.Module, ABC):
    """Whatever learns to predict tokens from a batch."""

    max_positions: int  # longest sequence that it reads, end mark included
    export_limits: dict[str, str]  # format: why this model cannot be exported to it
    takes_packed_sequences: bool = False  # whether `forward` takes a PackedBatch
    output: OutputLayer  # features to logits

    @abstractmethod
    def forward(self, batch: Batch, record: AttentionRecord = NO_RECORD) -> Predictions:
        """Return what is to be learnt from a batch.

        Adds to `record` the attention weights that it asks for.
        """

    def compile_layers(self) -> None:
        """Let torch.compile fuse the layers' kernels, for packed batches of one static shape."""


class TranslationModel(Model):
    """A conditional model of target tokens given source tokens."""

    source_heads: tuple[int, int]  # layers and heads that attend to the source; (0, 0) if none

    @abstractmethod
    def features(self, batch: Batch, record: AttentionRecord = NO_RECORD) -> Tensor:
        """Return the vectors (B,T,D) from which each target token is predicted.

        Adds to `record` the attention weights that it asks for.
        """

    @abstractmethod
    def encode(self, source: Tensor, source_lengths: Tensor, watched: Head | None = None) -> State:
        """Read sources (B,S) of the lengths (B,); the state has one hypothesis a sentence.

        With a head `watched`, each step leaves its weights in the state's `attention`. Raises
        `UserError` for a head that does not exist.
        """

    @abstractmethod
    def step_features(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one more token (B,K) of each hypothesis; return the vectors (B,K,D) from which the
        next is predicted."""

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one more token (B,K) of each hypothesis; return logits (B,K,V) of the next.

        The caller may overwrite the logits.
        """
        features, state = self.step_features(tokens, state)
        return self.output(features), state

    def likeliest(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the largest logit of each vector (N,D), and whose it is, both (N,).

        Returns NaN for a vector that contains NaN.
        """
        return largest(self.output(features))

    def logits(self, batch: Batch) -> Tensor:
        """Return the logits (B,T,V) of every target token, given those before it."""
        logits: Tensor = self.output(self.features(batch))
        return logits

    def forward(self, batch: Batch, record: AttentionRecord = NO_RECORD) -> Predictions:
        """Return the features of the real target tokens; an architecture may add others."""
        features = self.features(batch, record)
        if isinstance(batch, PackedBatch):
            return Predictions(features.flatten(0, 1), batch.target_out.flatten(), True)
        places = torch.arange(features.shape[1], device=features.device)
        is_real = places < batch.target_lengths[:, None]
        return Predictions(features[is_real], batch.target_out[is_real])

    def attention(self, batch: Batch) -> dict[str, Tensor]:
        """Return every attention weight by kind, shape (B, layers, heads, rows, columns)."""
        record = AttentionRecord()
        self.features(batch, record)
        return record.by_kind()

    def alignment(self, batch: Batch, head: Head) -> Tensor:
        """Return how strongly each target token, as it is predicted, attends to each of the
        source, shape (B,T,S)."""
        record = self.record_of(head)
        self.features(batch, record)
        return self.alignment_in(record, batch, head)

    def record_of(self, head: Head) -> AttentionRecord:
        """Return a record that takes in what `alignment_in` reads."""
        return AttentionRecord(("cross", self.layer_of(head)))

    def alignment_in(self, record: AttentionRecord, batch: Batch, head: Head) -> Tensor:
        """Return the weights (B,T,S) of a head that `features` has left in its record."""
        return pick_head(record.weights("cross", self.layer_of(head)), head)

    def layer_of(self, head: Head) -> int:
        """Return the layer meant, from 0: by default the last but one, which aligns best
        (Garg et al. 2019). Raises `UserError` for a layer or head that does not exist."""
        layers, heads = self.source_heads
        if not layers:
            raise UserError(
                "this model has no attention over the source, so nothing to show or align by",
                "an RNN has it with model.attention: additive, dot or general",
            )
        if head.layer is not None and not 1 <= head.layer <= layers:
            raise UserError(f"there is no layer {head.layer}: this model's are 1 to {layers}")
        if head.head is not None and not 1 <= head.head <= heads:
            raise UserError(f"there is no head {head.head}: this model's are 1 to {heads}")
        return head.layer - 1 if head.layer is not None else max(0, layers - 2)


def pick_head(weights: Tensor, head: Head) -> Tensor:
    """Return one head's weights, or the mean of all, of weights (B,H,...)."""
    return weights.mean(dim=1) if head.head is None else weights[:, head.head - 1]

"""The contract between an architecture and everything that uses one.

Training uses `Model`, search and forced scores `SearchedModel` and `State`, alignment
`TranslationModel`, which is both. Nothing depends on more: an encoder that only predicts masked
tokens need only be a `Model`, an ensemble only a `SearchedModel`.

Shapes: B sentences, K hypotheses a sentence, S source length, T target length, D width,
V target vocabulary, N real tokens to predict. Lengths count the end mark.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtrain.data.batch import Batch, PackedBatch, PairBatch
from mtrain.errors import UserError
from mtrain.nn.feature_attention import Features
from mtrain.nn.output import OutputLayer


@dataclass(frozen=True)
class Head:
    """One of a model's attentions over the source; without a layer the model chooses it."""

    layer: int | None = None  # of the decoder, from 1
    head: int | None = None  # from 1; None is the mean of the layer's heads


class AttentionRecord:
    """Attention weights that a forward pass collects, for the caller that made the record.

    Kinds: `encoder` and `decoder` are self-attention, `cross` is the decoder's over the source.
    """

    def __init__(self, only: tuple[str, int] | None = None) -> None:
        self._only = only  # (kind, layer from 0); None: all
        self._noted: dict[tuple[str, int], list[Tensor]] = {}

    def list_for(self, kind: str, layer: int) -> list[Tensor] | None:
        """Return the list for the weights of a layer (from 0), or None if they are not wanted."""
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


NO_RECORD = AttentionRecord(("", 0))  # collects nothing


class State(ABC):
    """The decoding state of B sentences with K hypotheses each.

    A call consumes the state that it receives: use the returned one afterwards.
    """

    attention: Tensor | None = None  # (B,K,S) of the newest token, if `encode` got a `watched` head

    @abstractmethod
    def reorder(self, hypotheses: Tensor) -> "State":
        """Select the hypotheses (B,K') of each sentence, by their current numbers."""

    @abstractmethod
    def keep(self, sentences: Tensor) -> "State":
        """Keep only the sentences (B',), by their numbers, in that order."""


@dataclass(frozen=True)
class Predictions:
    """The features of a batch, which the output layer reads, and their targets."""

    features: Tensor  # (N,D)
    targets: Tensor  # (N,) ids, or IGNORE_INDEX for no loss
    has_static_shape: bool = False  # whether N is the same for every batch


class Model(nn.Module, ABC):
    """A network that learns to predict tokens from a batch."""

    max_positions: int  # length of the longest sequence it reads, end mark included
    export_limits: dict[str, str]  # format: why this model cannot be exported to it
    takes_packed_sequences: bool = False  # whether `forward` takes a PackedBatch
    is_capturable: bool = True  # whether `forward` runs on a GPU without host synchronisation
    output: OutputLayer  # maps features to logits
    # how the names of the encoder's parameters begin; the other layers are the decoder's
    encoder_prefixes: tuple[str, ...] = ("encoder", "source_positions", "source_combined")

    @abstractmethod
    def forward(self, batch: Batch, record: AttentionRecord = NO_RECORD) -> Predictions:
        """Return the features and targets of a batch.

        Adds to `record` the attention weights that it asks for.
        """

    @property
    def layers(self) -> Sequence[nn.Module]:
        """The layers that `forward` calls as modules, one after the other; () if there are none.

        Processes share out the weights of each by itself.
        """
        return ()

    def compile_layers(self) -> None:
        """Let torch.compile fuse the kernels of layers, for packed batches of one static shape."""


class SearchedModel(nn.Module, ABC):
    """A conditional model of target tokens given source tokens, as search and scoring use it."""

    max_positions: int  # length of the longest source or target, end mark included

    @abstractmethod
    def encode(
        self,
        source: Tensor,
        source_lengths: Tensor,
        watched: Head | None = None,
        features: Features | None = None,
    ) -> State:
        """Read sources (B,S) of lengths (B,); return a state with one hypothesis a sentence.

        With a head `watched`, each step stores its weights in the state's `attention`. A model
        that reads features of the sources gets them. Raises `UserError` for a head that does not
        exist.
        """

    @abstractmethod
    def read(self, tokens: Tensor, state: State) -> State:
        """Read one more token (B,K) of each hypothesis, and predict nothing."""

    @abstractmethod
    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one more token (B,K) of each hypothesis; return logits (B,K,V) of the next.

        The caller may overwrite the logits.
        """

    @abstractmethod
    def logits(self, batch: PairBatch) -> Tensor:
        """Return the logits (B,T,V) of every target token, given those before it."""


class TranslationModel(Model, SearchedModel):
    """A network that learns to translate, and that search asks for the next token."""

    source_heads: tuple[int, int]  # layers and heads that attend to the source; (0, 0) if none

    @abstractmethod
    def features(self, batch: PairBatch, record: AttentionRecord = NO_RECORD) -> Tensor:
        """Return the vectors (B,T,D) from which each target token is predicted.

        Adds to `record` the attention weights that it asks for.
        """

    @abstractmethod
    def step_features(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one more token (B,K) of each hypothesis; return features (B,K,D) of the next."""

    def read(self, tokens: Tensor, state: State) -> State:
        return self.step_features(tokens, state)[1]

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        features, state = self.step_features(tokens, state)
        return self.output(features), state

    def logits(self, batch: PairBatch) -> Tensor:
        logits: Tensor = self.output(self.features(batch))
        return logits

    def forward(self, batch: Batch, record: AttentionRecord = NO_RECORD) -> Predictions:
        """Return the features of the real target tokens, after which a model may add others."""
        assert isinstance(batch, PairBatch)
        features = self.features(batch, record)
        if isinstance(batch, PackedBatch):
            return Predictions(features.flatten(0, 1), batch.target_out.flatten(), True)
        places = torch.arange(features.shape[1], device=features.device)
        is_real = places < batch.target_lengths[:, None]
        return Predictions(features[is_real], batch.target_out[is_real])

    def attention(self, batch: PairBatch) -> dict[str, Tensor]:
        """Return every attention weight by kind, shape (B, layers, heads, rows, columns)."""
        record = AttentionRecord()
        self.features(batch, record)
        return record.by_kind()

    def alignment(self, batch: PairBatch, head: Head) -> Tensor:
        """Return the attention (B,T,S) over the source by which each target token is predicted."""
        record = self.record_of(head)
        self.features(batch, record)
        return self.alignment_in(record, batch, head)

    def record_of(self, head: Head) -> AttentionRecord:
        """Return a record that collects what `alignment_in` reads."""
        return AttentionRecord(("cross", self.layer_of(head)))

    def alignment_in(self, record: AttentionRecord, batch: PairBatch, head: Head) -> Tensor:
        """Return a head's weights (B,T,S) from the record that `features` has filled."""
        return pick_head(record.weights("cross", self.layer_of(head)), head)

    def layer_of(self, head: Head) -> int:
        """Return the layer of a head, from 0; by default the last but one.

        That one aligns best (Garg et al. 2019). Raises `UserError` for a layer or head that does
        not exist.
        """
        layers, heads = self.source_heads
        if not layers:
            raise UserError(
                "this model has no attention over the source, so nothing to show or align by",
                "an RNN has it with model.attention: additive, dot or general",
            )
        return find_layer(head, layers, heads)


def find_layer(head: Head, layers: int, heads: int) -> int:
    """Return the layer of a head, from 0, among so many; by default the last but one.

    Raises `UserError` for a layer or head that does not exist.
    """
    if head.layer is not None and not 1 <= head.layer <= layers:
        raise UserError(f"there is no layer {head.layer}: this model's are 1 to {layers}")
    if head.head is not None and not 1 <= head.head <= heads:
        raise UserError(f"there is no head {head.head}: this model's are 1 to {heads}")
    return head.layer - 1 if head.layer is not None else max(0, layers - 2)


def pick_head(weights: Tensor, head: Head) -> Tensor:
    """Return one head's weights of (B,H,...), or the mean of all heads."""
    return weights.mean(dim=1) if head.head is None else weights[:, head.head - 1]

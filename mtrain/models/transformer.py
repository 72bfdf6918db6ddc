"""The Transformer encoder-decoder (Vaswani et al. 2017).

Shapes: B sentences, K hypotheses a sentence, S source length, T target length, D width, H heads,
Dh width of a head, V vocabulary.

In search a sentence's K hypotheses are K queries of one attention. They share the encoder's memory
and one cache with the tokens of all hypotheses (see nn/cache.py).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from mtrain.config.model import TransformerConfig
from mtrain.data.batch import PackedBatch, PairBatch
from mtrain.models.base import NO_RECORD, AttentionRecord, Head, State, TranslationModel, pick_head
from mtrain.nn.attention import (
    padding_mask,
    sentence_mask,
)
from mtrain.nn.block_sparse import (
    Mask,
    Span,
    layer_masks,
    new_pattern,
    spans_of_lengths,
    spans_of_sentences,
)
from mtrain.nn.cache import Kept, KeyValueCache, Past
from mtrain.nn.embeddings import Combination, tied_embeddings
from mtrain.nn.feature_attention import (
    Beside,
    FeatureAttention,
    FeatureAttentions,
    FeatureMemory,
    Features,
)
from mtrain.nn.layers import (
    DecoderLayer,
    LayerCall,
    LayerShape,
    SelfAttentionLayer,
    call_layer,
)
from mtrain.nn.positions import POSITIONS

READ_AT_ONCE = 1024  # source tokens that a CPU encodes at a time


@dataclass
class TransformerState(State):
    """The memory and the caches of all layers, and the slots that each hypothesis sees."""

    memory: list[tuple[Tensor, Tensor]]  # keys and values (B,H,S,Dh) of each layer
    memory_mask: Tensor  # (B,1,1,S)
    past: Past
    watched: Head | None
    features: FeatureMemory | None
    num_steps: int = 0

    def reorder(self, hypotheses: Tensor) -> "TransformerState":
        self.past.reorder(hypotheses)
        return self

    def keep(self, sentences: Tensor) -> "TransformerState":
        kept = Kept(sentences)
        return TransformerState(
            [(kept.of(keys), kept.of(values)) for keys, values in self.memory],
            kept.of(self.memory_mask),
            self.past.keep(kept),
            self.watched,
            self.features and self.features.keep(kept),
            self.num_steps,
        )


@dataclass(frozen=True)
class _Layout:
    """The positions of a batch's tokens, and the attention masks."""

    source: Tensor  # (S,) or (B,S)
    target: Tensor  # (T,) or (B,T)
    source_masks: Sequence[Mask]  # of each encoder layer
    target_mask: Tensor | None  # None: causal
    memory_mask: Tensor
    call: LayerCall


class Transformer(TranslationModel):
    """Encoder and decoder stacks over embeddings with positions."""

    takes_packed_sequences = True

    def __init__(
        self,
        config: TransformerConfig,
        source_vocab: int,
        target_vocab: int,
        feature_width: int = 0,
    ) -> None:
        """Build the layers; those of a model that reads features need their width."""
        super().__init__()
        self.max_positions = config.max_positions
        self._call_packed: LayerCall = call_layer
        self._pattern = new_pattern(config.encoder_attention.pattern)
        self.is_capturable = self._pattern is None
        self.source_heads = (config.decoder_layers, config.num_heads)
        self.export_limits = config.export_limits
        places = config.max_positions, config.d_model, config.num_heads
        self.source_positions = POSITIONS[config.positions](*places)
        self.target_positions = POSITIONS[config.positions](*places)
        combine = config.d_model, config.dropout, config.embedding_norm, config.norm_epsilon
        self.source_combined, self.target_combined = (Combination(*combine) for _ in range(2))
        shape = LayerShape(**config.layer)
        self.encoder = nn.ModuleList(
            SelfAttentionLayer(shape) for _ in range(config.encoder_layers)
        )
        self.decoder = nn.ModuleList(DecoderLayer(shape) for _ in range(config.decoder_layers))
        self.encoder_features, self.decoder_features = (
            _new_feature_attentions(config, feature_width, len(stack))
            for stack in (self.encoder, self.decoder)
        )
        self.encoder_norm, self.decoder_norm = shape.last_norm(), shape.last_norm()
        self.source_embedding, self.target_embedding, self.output = tied_embeddings(
            config.tie_embeddings,
            source_vocab,
            target_vocab,
            config.d_model,
            config.token_dropout,
            config.output_bias,
        )

    def features(self, batch: PairBatch, record: AttentionRecord = NO_RECORD) -> Tensor:
        layout = self._layout(batch)
        memory = self._read_source(
            batch.source, layout.source, layout.source_masks, layout.call, batch.source_features,
            record,
        )  # fmt: skip
        besides = self._beside_decoder(self.decoder_features.read(batch.source_features))
        positions = layout.target
        x = self._embed_target(batch.target_in, positions)
        rotate = self.target_positions.rotate(positions)
        for number, (layer, beside) in enumerate(zip(self.decoder, besides, strict=True)):
            x = layout.call(
                layer,
                x,
                memory,
                layout.memory_mask,
                layout.target_mask,
                rotate,
                record.list_for("decoder", number),
                record.list_for("cross", number),
                beside,
            )
        features: Tensor = self.decoder_norm(x)
        return features

    @property
    def layers(self) -> Sequence[nn.Module]:
        return [*self.encoder, *self.decoder]

    def compile_layers(self) -> None:
        self._call_packed = torch.compile(call_layer, dynamic=False)

    def encode(
        self,
        source: Tensor,
        source_lengths: Tensor,
        watched: Head | None = None,
        features: Features | None = None,
    ) -> TransformerState:
        if watched is not None:
            self.layer_of(watched)
        width = source.shape[1]
        memories = [
            self._read_source(
                part, _positions(part), self._padded_masks(part, lengths), call_layer, of_part
            )
            for part, lengths, of_part in _parts(source, source_lengths, features)
        ]
        memory = [
            _joined([layer.cross_attention.project_memory(part) for part in memories], width)
            for layer in self._layers()
        ]
        mask = self._padding_mask(source, source_lengths)
        past = Past([KeyValueCache() for _ in self.decoder], mask[..., :0])
        read = self.decoder_features.read(features)
        return TransformerState(memory, mask, past, watched, read)

    def step_features(self, tokens: Tensor, state: State) -> tuple[Tensor, TransformerState]:
        assert isinstance(state, TransformerState)
        position = tokens.new_full((1,), state.num_steps)
        x = self._embed_target(tokens, position)
        rotate = self.target_positions.rotate(position)
        state.past.extend(tokens.shape[1])
        state.num_steps += 1
        record = self.record_of(state.watched) if state.watched else NO_RECORD
        besides = self._beside_decoder(state.features)
        layers = zip(self._layers(), state.memory, state.past.caches, besides, strict=True)
        for number, (layer, memory, cache, beside) in enumerate(layers):
            noted = record.list_for("cross", number)
            x = layer.step(
                x, memory, state.memory_mask, cache, state.past.mask, rotate, noted, beside
            )
        if state.watched:
            weights = record.weights("cross", self.layer_of(state.watched))
            state.attention = pick_head(weights, state.watched)
        return self.decoder_norm(x), state

    def _layers(self) -> Iterator[DecoderLayer]:
        return cast(Iterator[DecoderLayer], iter(self.decoder))

    def _layout(self, batch: PairBatch) -> "_Layout":
        if isinstance(batch, PackedBatch):
            source, target = batch.source_sentences, batch.target_sentences
            return _Layout(
                batch.source_positions,
                batch.target_positions,
                self._encoder_masks(
                    batch.source,
                    lambda: sentence_mask(source, source),
                    lambda: spans_of_sentences(source),
                ),
                sentence_mask(target, target, causal=True),
                sentence_mask(target, source),
                self._call_packed,
            )
        padded = batch.source, batch.source_lengths
        return _Layout(
            _positions(batch.source),
            _positions(batch.target_in),
            self._padded_masks(*padded),
            None,
            self._padding_mask(*padded),
            call_layer,
        )

    def _padded_masks(self, source: Tensor, lengths: Tensor) -> Sequence[Mask]:
        return self._encoder_masks(
            source,
            lambda: self._padding_mask(source, lengths),
            lambda: spans_of_lengths(lengths),
        )

    def _encoder_masks(
        self, source: Tensor, full: Callable[[], Tensor], spans: Callable[[], Sequence[Span]]
    ) -> Sequence[Mask]:
        return layer_masks(self._pattern, source, full, spans, len(self.encoder))

    def _padding_mask(self, source: Tensor, lengths: Tensor) -> Tensor:
        return padding_mask(lengths, source.shape[1], self.target_embedding.weight.dtype)

    def _read_source(
        self,
        source: Tensor,
        positions: Tensor,
        masks: Sequence[Mask],
        call: LayerCall,
        features: Features | None,
        record: AttentionRecord = NO_RECORD,
    ) -> Tensor:
        """Return the memory (B,S,D) of sources (B,S)."""
        read = self.encoder_features.read(features)
        besides = self.encoder_features.beside(read, len(self.encoder))
        x = self.source_combined(self.source_embedding(source), self.source_positions(positions))
        rotate = self.source_positions.rotate(positions)
        layers = zip(self.encoder, masks, besides, strict=True)
        for number, (layer, mask, beside) in enumerate(layers):
            x = call(layer, x, mask, rotate, record.list_for("encoder", number), None, beside)
        memory: Tensor = self.encoder_norm(x)
        return memory

    def _beside_decoder(self, memory: FeatureMemory | None) -> Sequence[Beside | None]:
        return self.decoder_features.beside(memory, len(self.decoder))

    def _embed_target(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Return the layers' input (B,T,D) for tokens (B,T) at positions (T,)."""
        embedded = self.target_embedding(tokens), self.target_positions(positions)
        x: Tensor = self.target_combined(*embedded)
        return x


def _new_feature_attentions(
    config: TransformerConfig, feature_width: int, num_layers: int
) -> FeatureAttentions:
    if config.features is None:
        return FeatureAttentions()
    sizes = config.d_model, config.num_heads, config.attention_dropout, feature_width
    return FeatureAttentions(
        FeatureAttention(*sizes, config.features.drop) for _ in range(num_layers)
    )


def _parts(
    source: Tensor, lengths: Tensor, features: Features | None
) -> list[tuple[Tensor, Tensor, Features | None]]:
    """Split sources, lengths and features into parts of a few sentences, as wide as their longest.

    A GPU reads all at once, which is too much for a CPU's cache.
    """
    if not source.is_cpu:
        return [(source, lengths, features)]
    at_once = max(1, READ_AT_ONCE // source.shape[1])
    few = source.split(at_once)
    split = features.split(at_once) if features else [None] * len(few)
    parts = zip(few, lengths.split(at_once), split, strict=True)
    return [(part[:, : int(theirs.max())], theirs, of_part) for part, theirs, of_part in parts]


def _joined(parts: list[tuple[Tensor, Tensor]], width: int) -> tuple[Tensor, Tensor]:
    """Join the keys and the values of all parts, each to (B,H,S,Dh), padded with zeros."""

    def join(narrow: tuple[Tensor, ...]) -> Tensor:
        counts = [len(part) for part in narrow]
        _, num_heads, _, head_dim = narrow[0].shape
        whole = narrow[0].new_zeros(sum(counts), num_heads, width, head_dim)
        for part, place in zip(narrow, whole.split(counts), strict=True):
            place[:, :, : part.shape[2]] = part
        return whole

    keys, values = map(join, zip(*parts, strict=True))
    return keys, values


def _positions(tokens: Tensor) -> Tensor:
    return torch.arange(tokens.shape[1], device=tokens.device)

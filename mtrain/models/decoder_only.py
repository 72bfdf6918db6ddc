"""The decoder-only model: one stack reads source, separator and target in sequence, like GPT.

The sequence is source, </s>, <s>, target: the two marks separate the languages. A target token
sees the source and the target before it. A source token sees the whole source (prefix LM, Raffel
et al. 2020, section 3.2.1) or only the source before it, and never the target.

Shapes: B sentences, K hypotheses a sentence, S source length, T target length, L = S+T, D width,
H heads, Dh width of a head. In a padded batch there is padding between a short source and its
target; positions do not count it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtrain.config.model import DecoderOnlyConfig
from mtrain.data.batch import Batch, PackedBatch, PairBatch
from mtrain.models.base import (
    NO_RECORD,
    AttentionRecord,
    Head,
    Predictions,
    State,
    TranslationModel,
    pick_head,
)
from mtrain.nn.attention import padding_mask, sentence_mask
from mtrain.nn.cache import Kept, KeyValueCache, Past
from mtrain.nn.dropout import dropout
from mtrain.nn.embeddings import tied_embeddings
from mtrain.nn.feature_attention import Features
from mtrain.nn.layers import LayerCall, LayerShape, SelfAttentionLayer, call_layer
from mtrain.nn.output import IGNORE_INDEX
from mtrain.nn.positions import POSITIONS


@dataclass
class DecoderOnlyState(State):
    """The caches of all layers, source first, and the slots that each hypothesis sees."""

    past: Past
    lengths: Tensor  # (B,) of sources, end mark included
    num_sources: int  # slots that hold sources
    watched: Head | None
    num_steps: int = 0

    def reorder(self, hypotheses: Tensor) -> "DecoderOnlyState":
        self.past.reorder(hypotheses)
        return self

    def keep(self, sentences: Tensor) -> "DecoderOnlyState":
        past, lengths = self.past.keep(Kept(sentences)), self.lengths[sentences]
        return DecoderOnlyState(past, lengths, self.num_sources, self.watched, self.num_steps)


class DecoderOnly(TranslationModel):
    """A self-attention stack over source and target together."""

    takes_packed_sequences = True

    def __init__(self, config: DecoderOnlyConfig, source_vocab: int, target_vocab: int) -> None:
        super().__init__()
        self._call_packed: LayerCall = call_layer
        self.max_positions = config.max_positions
        self.source_heads = (config.decoder_layers, config.num_heads)
        self.export_limits = config.export_limits
        self.dropout = config.dropout
        self.scale = config.d_model**0.5
        self.sees_whole_source = config.source_attention == "full"
        self.source_loss = config.source_loss
        self.positions = POSITIONS[config.positions](
            2 * config.max_positions, config.d_model, config.num_heads
        )
        shape = LayerShape(**config.layer)
        self.stack = nn.ModuleList(SelfAttentionLayer(shape) for _ in range(config.decoder_layers))
        self.stack_norm = shape.last_norm()
        self.source_embedding, self.target_embedding, self.output = tied_embeddings(
            config.tie_embeddings, source_vocab, target_vocab, config.d_model, config.token_dropout
        )

    def features(self, batch: PairBatch, record: AttentionRecord = NO_RECORD) -> Tensor:
        return self._read(batch, record)[:, batch.source.shape[1] :]

    def forward(self, batch: Batch, record: AttentionRecord = NO_RECORD) -> Predictions:
        assert isinstance(batch, PairBatch)
        if not (self.training and self.source_loss):
            return super().forward(batch, record)
        features = self._read(batch, record)
        width = batch.source.shape[1]
        of_source, of_target = features[:, : width - 1], features[:, width:]
        # no token precedes a source's first token, so nothing predicts it
        next_source = batch.source[:, 1:]
        if isinstance(batch, PackedBatch):
            is_same = batch.source_sentences[:, 1:] == batch.source_sentences[:, :-1]
            is_source = is_same & (batch.source_sentences[:, 1:] >= 0)
            next_source = next_source.masked_fill(~is_source, IGNORE_INDEX)
            return Predictions(
                torch.cat([of_target.flatten(0, 1), of_source.flatten(0, 1)]),
                torch.cat([batch.target_out.flatten(), next_source.flatten()]),
                has_static_shape=True,
            )
        places = torch.arange(features.shape[1], device=features.device)
        is_source = places[: width - 1] < batch.source_lengths[:, None] - 1
        is_target = places[: batch.target_in.shape[1]] < batch.target_lengths[:, None]
        return Predictions(
            torch.cat([of_target[is_target], of_source[is_source]]),
            torch.cat([batch.target_out[is_target], next_source[is_source]]),
        )

    @property
    def layers(self) -> Sequence[nn.Module]:
        return list(self.stack)

    def compile_layers(self) -> None:
        self._call_packed = torch.compile(call_layer, dynamic=False)

    def encode(
        self,
        source: Tensor,
        source_lengths: Tensor,
        watched: Head | None = None,
        features: Features | None = None,
    ) -> DecoderOnlyState:
        if watched is not None:
            self.layer_of(watched)
        positions = torch.arange(source.shape[1], device=source.device)
        x = self._embed(source, self.source_embedding, positions)
        mask = self._source_mask(source_lengths, source.shape[1])
        rotate = self.positions.rotate(positions)
        padding = padding_mask(source_lengths, source.shape[1], mask.dtype)
        past = Past([KeyValueCache() for _ in self.stack], padding)
        for layer, cache in zip(self.stack, past.caches, strict=True):
            x = layer(x, mask, rotate, None, cache)
        return DecoderOnlyState(past, source_lengths, source.shape[1], watched)

    def step_features(self, tokens: Tensor, state: State) -> tuple[Tensor, DecoderOnlyState]:
        assert isinstance(state, DecoderOnlyState)
        positions = state.lengths[:, None] + state.num_steps
        x = self._embed(tokens, self.target_embedding, positions)
        rotate = self.positions.rotate(positions)
        state.past.extend(tokens.shape[1])
        state.num_steps += 1
        record = self.record_of(state.watched) if state.watched else NO_RECORD
        for number, (layer, cache) in enumerate(zip(self.stack, state.past.caches, strict=True)):
            x = layer(x, state.past.mask, rotate, record.list_for("decoder", number), cache)
        if state.watched:
            weights = record.weights("decoder", self.layer_of(state.watched))
            state.attention = pick_head(_over_source(weights, state.num_sources), state.watched)
        return self.stack_norm(x), state

    def record_of(self, head: Head) -> AttentionRecord:
        return AttentionRecord(("decoder", self.layer_of(head)))

    def alignment_in(self, record: AttentionRecord, batch: PairBatch, head: Head) -> Tensor:
        width = batch.source.shape[1]
        weights = record.weights("decoder", self.layer_of(head))[:, :, width:]
        return pick_head(_over_source(weights, width), head)

    def _read(self, batch: PairBatch, record: AttentionRecord) -> Tensor:
        """Return the features (B,L,D) of sources and targets."""
        source, target = batch.source, batch.target_in
        if isinstance(batch, PackedBatch):
            source_places, target_places, mask = _packed_layout(batch, not self.sees_whole_source)
            call = self._call_packed
        else:
            places = torch.arange(max(source.shape[1], target.shape[1]), device=source.device)
            source_places = places[: source.shape[1]].expand(len(source), -1)
            target_places = batch.source_lengths[:, None] + places[: target.shape[1]]
            mask, call = self._mask(batch), call_layer
        x = torch.cat(
            [
                self._embed(source, self.source_embedding, source_places),
                self._embed(target, self.target_embedding, target_places),
            ],
            dim=1,
        )
        rotate = self.positions.rotate(torch.cat([source_places, target_places], dim=1))
        for number, layer in enumerate(self.stack):
            x = call(layer, x, mask, rotate, record.list_for("decoder", number))
        features: Tensor = self.stack_norm(x)
        return features

    def _mask(self, batch: PairBatch) -> Tensor:
        """Return the attention mask (B,1,L,L) of a padded batch."""
        width, height = batch.source.shape[1], batch.target_in.shape[1]
        mask = self.target_embedding.weight.new_full(
            (len(batch.source), 1, width + height, width + height), float("-inf")
        )
        mask[:, :, :width, :width] = self._source_mask(batch.source_lengths, width)
        mask[:, :, width:, :width] = padding_mask(batch.source_lengths, width, mask.dtype)
        mask[:, :, width:, width:] = mask.new_full((height, height), float("-inf")).triu(1)
        return mask

    def _source_mask(self, lengths: Tensor, width: int) -> Tensor:
        """Return the mask of source over source: (B,1,S,S), or (B,1,1,S) if the same for all."""
        mask = padding_mask(lengths, width, self.target_embedding.weight.dtype)
        if self.sees_whole_source:
            return mask
        return mask + mask.new_full((width, width), float("-inf")).triu(1)

    def _embed(self, tokens: Tensor, embedding: nn.Module, positions: Tensor) -> Tensor:
        """Return scaled embeddings plus positions, (B,L,D), of tokens (B,L)."""
        x = embedding(tokens) * self.scale + self.positions(positions)
        return dropout(x, self.dropout, self.training)


def _packed_layout(batch: PackedBatch, causal_source: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the positions of source (B,S) and target (B,T), and the mask (B,1,L,L)."""
    source, target = batch.source_sentences, batch.target_sentences
    is_own_source = target[:, :, None] == source[:, None]  # (B,T,S)
    positions = is_own_source.sum(dim=2) + batch.target_positions
    blind = source.new_full((1, 1), -2).expand(len(source), target.shape[1])  # in no sentence
    mask = torch.cat(
        [
            torch.cat(
                [sentence_mask(source, source, causal_source), sentence_mask(source, blind)], dim=3
            ),
            torch.cat(
                [sentence_mask(target, source), sentence_mask(target, target, causal=True)], dim=3
            ),
        ],
        dim=2,
    )
    return batch.source_positions, positions, mask


def _over_source(weights: Tensor, width: int) -> Tensor:
    """Return the source part (B,H,T,S) of weights (B,H,T,L), renormalised to sum to one."""
    on_source = weights[..., :width]
    return on_source / on_source.sum(dim=-1, keepdim=True).clamp_min(1e-9)

"""The Transformer encoder-decoder (Vaswani et al. 2017).

Shapes: B sentences, K hypotheses a sentence, S source length, T target length, D width, H heads,
Dh width of a head, V vocabulary.

In search a sentence's K hypotheses are K queries of one attention: over the encoder's memory,
which they share, and over all that any of them has read, of which a mask shows each hypothesis
its own past. So reordering hypotheses moves rows of a small mask, never keys and values.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtrain.config.schema import TransformerConfig
from mtrain.data.batches import Batch
from mtrain.models.base import Model, State
from mtrain.nn.attention import CrossAttention, SelfAttention, padding_mask
from mtrain.nn.dropout import dropout
from mtrain.nn.layers import FeedForward, Residual
from mtrain.nn.positions import POSITIONS


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.self_attention = SelfAttention(
            config.d_model, config.num_heads, config.attention_dropout
        )
        self.feed_forward = FeedForward(config.d_model, config.ffn_dim, config.activation)
        self.residuals = _residuals(config, 2)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (B,S,D) for x (B,S,D)."""
        x = self.residuals[0](x, lambda y: self.self_attention(y, mask))
        out: Tensor = self.residuals[1](x, self.feed_forward)
        return out


class DecoderLayer(nn.Module):
    """Self-attention over the past, attention over the memory, feed-forward."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.self_attention = SelfAttention(
            config.d_model, config.num_heads, config.attention_dropout
        )
        self.cross_attention = CrossAttention(
            config.d_model, config.num_heads, config.attention_dropout
        )
        self.feed_forward = FeedForward(config.d_model, config.ffn_dim, config.activation)
        self.residuals = _residuals(config, 3)

    def forward(self, x: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """Return (B,T,D) for x (B,T,D) and memory (B,S,D)."""
        keys, values = self.cross_attention.project_memory(memory)
        x = self.residuals[0](x, lambda y: self.self_attention(y, None, causal=True))
        x = self.residuals[1](x, lambda y: self.cross_attention(y, keys, values, memory_mask))
        out: Tensor = self.residuals[2](x, self.feed_forward)
        return out

    def step(self, x: Tensor, cache: "LayerCache", state: "TransformerState") -> Tensor:
        """Return (B,K,D) for the newest tokens x (B,K,D), whose keys and values are cached."""

        def attend_to_past(y: Tensor) -> Tensor:
            query, keys, values = self.self_attention.project(y)
            past = cache.append(keys, values, state.num_slots)
            return self.self_attention.attend(query, *past, state.past_mask)

        x = self.residuals[0](x, attend_to_past)
        x = self.residuals[1](
            x,
            lambda y: self.cross_attention(
                y, cache.memory_keys, cache.memory_values, state.memory_mask
            ),
        )
        out: Tensor = self.residuals[2](x, self.feed_forward)
        return out


def _residuals(config: TransformerConfig, count: int) -> nn.ModuleList:
    return nn.ModuleList(
        Residual(config.d_model, config.dropout, config.norm == "pre") for _ in range(count)
    )


@dataclass
class LayerCache:
    """Keys and values of one decoder layer; the past has room for more slots than are filled."""

    memory_keys: Tensor  # (B,H,S,Dh)
    memory_values: Tensor  # (B,H,S,Dh)
    past_keys: Tensor  # (B,H,slots,Dh)
    past_values: Tensor  # (B,H,slots,Dh)

    def append(self, keys: Tensor, values: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Write keys and values (B,H,K,Dh) from slot `start` on; return all written so far."""
        end = start + keys.shape[2]
        if end > self.past_keys.shape[2]:
            room = max(end, 2 * start) - start
            self.past_keys = F.pad(self.past_keys[:, :, :start], (0, 0, 0, room))
            self.past_values = F.pad(self.past_values[:, :, :start], (0, 0, 0, room))
        self.past_keys[:, :, start:end] = keys
        self.past_values[:, :, start:end] = values
        return self.past_keys[:, :, :end], self.past_values[:, :, :end]

    def keep(self, sentences: Tensor) -> "LayerCache":
        """Keep only some sentences."""
        return LayerCache(*(value.index_select(0, sentences) for value in vars(self).values()))


@dataclass
class TransformerState(State):
    """Every token read by any hypothesis has a slot; `past_mask` says whose past it is in."""

    layers: list[LayerCache]
    memory_mask: Tensor  # (B,1,1,S)
    past_mask: Tensor  # (B,1,K,slots)
    num_steps: int = 0

    @property
    def num_slots(self) -> int:
        """Slots filled before the newest tokens, for which the mask has been extended already."""
        return self.past_mask.shape[-1] - self.past_mask.shape[-2]

    def reorder(self, hypotheses: Tensor) -> "TransformerState":
        slots = self.past_mask.shape[-1]
        rows = hypotheses[:, None, :, None].expand(-1, 1, -1, slots)
        self.past_mask = self.past_mask.gather(2, rows)
        return self

    def keep(self, sentences: Tensor) -> "TransformerState":
        return TransformerState(
            [layer.keep(sentences) for layer in self.layers],
            self.memory_mask.index_select(0, sentences),
            self.past_mask.index_select(0, sentences),
            self.num_steps,
        )

    def extend(self, num_hypotheses: int) -> None:
        """Add a slot for the next token of each hypothesis, seen by that hypothesis alone."""
        own = torch.full((num_hypotheses, num_hypotheses), float("-inf")).fill_diagonal_(0.0)
        own = own.to(self.past_mask)[None, None].expand(len(self.past_mask), -1, -1, -1)
        self.past_mask = torch.cat([self.past_mask, own], dim=-1)
        self.num_steps += 1


class Transformer(Model):
    """Encoder and decoder stacks over embeddings with positions."""

    def __init__(self, config: TransformerConfig, source_vocab: int, target_vocab: int) -> None:
        super().__init__()
        self.max_positions = config.max_positions
        self.num_heads = config.num_heads
        self.dropout = config.dropout
        self.scale = config.d_model**0.5
        position_type = POSITIONS[config.positions]
        self.source_positions = position_type(config.max_positions, config.d_model)
        self.target_positions = position_type(config.max_positions, config.d_model)
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        # post-norm stacks end in a norm already
        last_norm = nn.LayerNorm if config.norm == "pre" else nn.Identity
        self.encoder_norm = last_norm(config.d_model)
        self.decoder_norm = last_norm(config.d_model)
        self.source_embedding = _embedding(source_vocab, config.d_model)
        self.target_embedding = _embedding(target_vocab, config.d_model)
        self.output = nn.Linear(config.d_model, target_vocab, bias=False)
        nn.init.normal_(self.output.weight, std=config.d_model**-0.5)
        if config.tie_embeddings in ("all", "decoder"):
            self.output.weight = self.target_embedding.weight
        if config.tie_embeddings == "all":
            assert source_vocab == target_vocab, "only one vocabulary can be tied to itself"
            self.source_embedding.weight = self.target_embedding.weight

    @property
    def output_matrix(self) -> Tensor:
        return self.output.weight

    def features(self, batch: Batch) -> Tensor:
        memory, mask = self._read_source(batch.source, batch.source_lengths)
        x = self._embed(batch.target_in, self.target_embedding, self.target_positions, 0)
        for layer in self.decoder:
            x = layer(x, memory, mask)
        features: Tensor = self.decoder_norm(x)
        return features

    def encode(self, source: Tensor, source_lengths: Tensor) -> TransformerState:
        memory, mask = self._read_source(source, source_lengths)
        layers = []
        for layer in self._decoder_layers():
            keys, values = layer.cross_attention.project_memory(memory)
            empty = keys[:, :, :0]
            layers.append(LayerCache(keys.contiguous(), values.contiguous(), empty, empty))
        return TransformerState(layers, mask, mask[:, :, :, :0])

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, TransformerState]:
        assert isinstance(state, TransformerState)
        x = self._embed(tokens, self.target_embedding, self.target_positions, state.num_steps, 1)
        state.extend(tokens.shape[1])
        for layer, cache in zip(self._decoder_layers(), state.layers, strict=True):
            x = layer.step(x, cache, state)
        return self.project(self.decoder_norm(x)), state

    def _decoder_layers(self) -> Iterator[DecoderLayer]:
        return cast(Iterator[DecoderLayer], iter(self.decoder))

    def _read_source(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the memory (B,S,D) and its mask (B,1,1,S)."""
        x = self._embed(source, self.source_embedding, self.source_positions, 0)
        mask = padding_mask(lengths, source.shape[1], x.dtype)
        for layer in self.encoder:
            x = layer(x, mask)
        return self.encoder_norm(x), mask

    def _embed(
        self,
        tokens: Tensor,
        embedding: nn.Module,
        positions: nn.Module,
        start: int,
        num_positions: int | None = None,
    ) -> Tensor:
        """Return scaled embeddings plus positions, (B,L,D), for tokens (B,L) from `start` on."""
        length = tokens.shape[1] if num_positions is None else num_positions
        x = embedding(tokens) * self.scale + positions(start, length)
        return dropout(x, self.dropout, self.training)


def _embedding(vocab_size: int, d_model: int) -> nn.Embedding:
    embedding = nn.Embedding(vocab_size, d_model)
    nn.init.normal_(embedding.weight, std=d_model**-0.5)
    return embedding

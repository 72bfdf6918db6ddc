"""The recurrent encoder-decoder, without attention or with one of its early kinds.

Sutskever et al. 2014 and Cho et al. 2014 (attention: none), Bahdanau et al. 2015 (additive, query:
previous), Luong et al. 2015 (dot, general, query: top, input feeding), Wu et al. 2016 (GNMT: deep,
residual, query: bottom).

Shapes: B sentences, K hypotheses a sentence, S source length, T target length, E width of the
embeddings, H of a state, M of the memory (the encoder's last states), V vocabulary.

Training runs step by step only where a step needs the one before: the bottom layer if its previous
state is the query of attention, everything with input feeding. All else runs over the whole target
at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import cast

import torch
from torch import Tensor, nn

from mtrain.config.model import RnnConfig
from mtrain.data.batch import PairBatch
from mtrain.models.base import NO_RECORD, AttentionRecord, Head, State, TranslationModel
from mtrain.nn.attention import padding_mask
from mtrain.nn.dropout import dropout
from mtrain.nn.embeddings import tied_embeddings
from mtrain.nn.feature_attention import Features
from mtrain.nn.global_attention import GlobalAttention
from mtrain.nn.recurrent import BidirectionalLayer, CellState, RecurrentLayer, last_of

RESIDUAL_FROM = 2  # the third layer (GNMT, section 3.1)


@dataclass
class Memory:
    """The encoded source, which the decoder attends to."""

    states: Tensor  # (B,S,M)
    keys: Tensor  # (B,S,A)
    mask: Tensor  # (B,1,S)

    def keep(self, sentences: Tensor) -> "Memory":
        """Keep only some sentences."""
        return Memory(*(getattr(self, f.name).index_select(0, sentences) for f in fields(self)))


@dataclass
class RnnState(State):
    """The decoder state of each hypothesis."""

    memory: Memory
    layers: list[CellState]  # each part (B,K,H)
    fed: Tensor | None  # (B,K,E) the last readout; None without input feeding
    watched: Head | None
    attention: Tensor | None = None

    def reorder(self, hypotheses: Tensor) -> "RnnState":
        def chosen(part: Tensor) -> Tensor:
            return part.gather(1, hypotheses[:, :, None].expand(-1, -1, part.shape[2]))

        layers = [tuple(map(chosen, layer)) for layer in self.layers]
        fed = None if self.fed is None else chosen(self.fed)
        return RnnState(self.memory, layers, fed, self.watched)

    def keep(self, sentences: Tensor) -> "RnnState":
        def chosen(part: Tensor) -> Tensor:
            return part.index_select(0, sentences)

        layers = [tuple(map(chosen, layer)) for layer in self.layers]
        fed = None if self.fed is None else chosen(self.fed)
        return RnnState(self.memory.keep(sentences), layers, fed, self.watched)


class Rnn(TranslationModel):
    """Recurrent encoder and decoder over embeddings, with or without attention between them."""

    def __init__(self, config: RnnConfig, source_vocab: int, target_vocab: int) -> None:
        super().__init__()
        self.max_positions = config.max_positions
        has_attention = config.attention != "none"
        self.source_heads = (1, 1) if has_attention else (0, 0)
        self.export_limits = config.export_limits
        self.config = config
        self.scale = config.embedding_dim**0.5
        hidden, width = config.hidden_dim, config.embedding_dim
        self.encoder, memory_dim = _encoder(config)
        context_dim = memory_dim if has_attention else 0
        # what each decoder layer reads besides the layer below it
        extra = {"previous": context_dim, "bottom": context_dim, "top": 0}[config.query]
        first = context_dim if config.query == "previous" else width * config.input_feeding
        inputs = [width + first] + [hidden + extra] * (config.decoder_layers - 1)
        self.decoder = nn.ModuleList(RecurrentLayer(config.cell, i, hidden) for i in inputs)
        both_ways = config.bidirectional_layers == config.encoder_layers
        summary_dim = hidden * 2 if both_ways and not has_attention else hidden
        self.bridge = nn.ModuleList(nn.Linear(summary_dim, hidden) for _ in inputs)
        self.global_attention = (
            GlobalAttention(config.attention, hidden, memory_dim, hidden) if has_attention else None
        )
        read = hidden + context_dim + (width if config.readout == "maxout" else 0)
        self.readout = nn.Linear(read, 2 * width if config.readout == "maxout" else width)
        for linear in (*cast(Iterator[nn.Linear], self.bridge), self.readout):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        self.source_embedding, self.target_embedding, self.output = tied_embeddings(
            config.tie_embeddings, source_vocab, target_vocab, width, config.token_dropout
        )

    def features(self, batch: PairBatch, record: AttentionRecord = NO_RECORD) -> Tensor:
        memory, first = self._read_source(batch.source, batch.source_lengths)
        words = self._embed(batch.target_in, self.target_embedding)
        if self.config.input_feeding:
            features, weights = self._unroll(words, memory, first)
        else:
            features, weights = self._run(words, memory, first)
        noted = record.list_for("cross", 0) if weights is not None else None
        if noted is not None and weights is not None:
            noted.append(weights[:, None])
        return features

    def encode(
        self,
        source: Tensor,
        source_lengths: Tensor,
        watched: Head | None = None,
        features: Features | None = None,
    ) -> RnnState:
        if watched is not None:
            self.layer_of(watched)
        memory, first = self._read_source(source, source_lengths)
        layers = [tuple(part[:, None] for part in state) for state in first]
        return RnnState(memory, layers, self._nothing_fed(memory), watched)

    def step_features(self, tokens: Tensor, state: State) -> tuple[Tensor, RnnState]:
        assert isinstance(state, RnnState)
        return self._step(self._embed(tokens, self.target_embedding), state)

    # -- source ---------------------------------------------------------------------------------

    def _read_source(self, source: Tensor, lengths: Tensor) -> tuple[Memory, list[CellState]]:
        """Return the memory and the first state (B,H) of each decoder layer.

        A bridge maps the last state of the encoder's last layer to the first states. With attention
        it reads only the backward half of a bidirectional last layer (Bahdanau, A.2.2).
        """
        x = self._embed(source, self.source_embedding)
        for number, layer in enumerate(self.encoder):
            if isinstance(layer, BidirectionalLayer):
                out = layer(self._drop(x) if number else x, lengths)
            else:
                out = layer(self._drop(x) if number else x)
            x = out + x if self.config.residual and number >= RESIDUAL_FROM else out
        hidden = self.config.hidden_dim
        if x.shape[-1] == hidden:
            summary = last_of(x, lengths)
        elif self.global_attention is not None:
            summary = x[:, 0, hidden:]
        else:
            summary = torch.cat([last_of(x[..., :hidden], lengths), x[:, 0, hidden:]], dim=-1)
        first: list[CellState] = []
        for linear in self.bridge:
            cell = linear(summary)
            state = torch.tanh(cell)
            first.append((state, cell) if self.config.cell == "lstm" else (state,))
        attention = self.global_attention
        keys = attention.project_memory(x) if attention is not None else x
        mask = padding_mask(lengths, source.shape[1], torch.float32)[:, 0]
        return Memory(x, keys, mask), first

    # -- the whole target at once ---------------------------------------------------------------

    def _run(
        self, words: Tensor, memory: Memory, first: list[CellState]
    ) -> tuple[Tensor, Tensor | None]:
        """Return features (B,T,E) and attention weights (B,T,S) for words (B,T,E)."""
        query = self.config.query if self.global_attention is not None else None
        context = weights = None
        if query == "previous":
            x, context, weights = self._ask_and_step(words, memory, first[0])
        else:
            x = self._layers[0](words, first[0])
        if query == "bottom":
            context, weights = self._attend(x, memory)
        for number in range(1, len(self.decoder)):
            x = self._add(x, self._layers[number](self._above(x, context), first[number]), number)
        if query == "top":
            context, weights = self._attend(x, memory)
        return self._read_out(x, context, words), weights

    def _ask_and_step(
        self, words: Tensor, memory: Memory, state: CellState
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Run the bottom layer; each step first attends with the previous state as the query.

        Returns states (B,T,H), contexts (B,T,M) and weights (B,T,S).
        """
        layer, width = self._layers[0], words.shape[-1]
        gates = layer.project_input(words)  # (B,T,G), all steps at once
        states, contexts, weights = [], [], []
        for from_words in gates.unbind(1):
            context, weight = self._attend(state[0][:, None], memory)
            from_context = layer.project_input(context[:, 0], width)
            state = layer.step_from(from_words + from_context, state)
            states.append(state[0])
            contexts.append(context[:, 0])
            weights.append(weight[:, 0])
        return torch.stack(states, 1), torch.stack(contexts, 1), torch.stack(weights, 1)

    # -- step by step ---------------------------------------------------------------------------

    def _unroll(
        self, words: Tensor, memory: Memory, first: list[CellState]
    ) -> tuple[Tensor, Tensor | None]:
        """Compute what `_run` computes, but one step at a time, as input feeding requires."""
        layers = [tuple(part[:, None] for part in state) for state in first]
        state = RnnState(memory, layers, self._nothing_fed(memory), Head())
        features, weights = [], []
        for word in words.split(1, dim=1):
            feature, state = self._step(word, state)
            features.append(feature)
            assert state.attention is not None
            weights.append(state.attention)
        return torch.cat(features, dim=1), torch.cat(weights, dim=1)

    def _step(self, words: Tensor, state: RnnState) -> tuple[Tensor, RnnState]:
        """Return features (B,K,E) after one more word (B,K,E) of each hypothesis."""
        memory = state.memory
        query = self.config.query if self.global_attention is not None else None
        context = weights = None
        x = words
        if query == "previous":
            context, weights = self._attend(state.layers[0][0], memory)
            x = torch.cat([words, context], dim=-1)
        elif state.fed is not None:
            x = torch.cat([words, state.fed], dim=-1)
        layers = [self._layers[0].step(x, state.layers[0])]
        x = layers[0][0]
        if query == "bottom":
            context, weights = self._attend(x, memory)
        for number in range(1, len(self.decoder)):
            layers.append(self._layers[number].step(self._above(x, context), state.layers[number]))
            x = self._add(x, layers[-1][0], number)
        if query == "top":
            context, weights = self._attend(x, memory)
        features = self._read_out(x, context, words)
        fed = None if state.fed is None else features
        watched = weights if state.watched is not None else None
        return features, RnnState(memory, layers, fed, state.watched, watched)

    # -- shared by both -------------------------------------------------------------------------

    @property
    def _layers(self) -> list[RecurrentLayer]:
        return list(cast(Iterator[RecurrentLayer], iter(self.decoder)))

    def _attend(self, query: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        assert self.global_attention is not None
        context, weights = self.global_attention(query, memory.keys, memory.states, memory.mask)
        return context, weights

    def _above(self, x: Tensor, context: Tensor | None) -> Tensor:
        """Return the input of a layer above the bottom one."""
        below = self._drop(x)
        return below if context is None else torch.cat([below, context], dim=-1)

    def _add(self, x: Tensor, out: Tensor, number: int) -> Tensor:
        return out + x if self.config.residual and number >= RESIDUAL_FROM else out

    def _read_out(self, x: Tensor, context: Tensor | None, words: Tensor) -> Tensor:
        """Return features (B,T,E) of states (B,T,H), contexts (B,T,M) and last words (B,T,E)."""
        parts = [x] if context is None else [x, context]
        if self.config.readout == "maxout":
            pairs = self.readout(torch.cat([*parts, words], dim=-1))
            out = pairs.unflatten(-1, (-1, 2)).amax(dim=-1)
        else:
            out = torch.tanh(self.readout(torch.cat(parts, dim=-1)))
        return self._drop(out)

    def _nothing_fed(self, memory: Memory) -> Tensor | None:
        if not self.config.input_feeding:
            return None
        return memory.states.new_zeros(len(memory.states), 1, self.config.embedding_dim)

    def _embed(self, tokens: Tensor, embedding: nn.Module) -> Tensor:
        return self._drop(embedding(tokens) * self.scale)

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.config.dropout, self.training)


def _encoder(config: RnnConfig) -> tuple[nn.ModuleList, int]:
    """Return the encoder's layers and the width of their output."""
    layers, width = nn.ModuleList(), config.embedding_dim
    for number in range(config.encoder_layers):
        if number < config.bidirectional_layers:
            layers.append(BidirectionalLayer(config.cell, width, config.hidden_dim))
            width = 2 * config.hidden_dim
        else:
            layers.append(RecurrentLayer(config.cell, width, config.hidden_dim))
            width = config.hidden_dim
    return layers, width

"""BERT (Devlin et al. 2019): an encoder that predicts masked tokens from those around them.

It has no segments and no next-sentence prediction, which Liu et al. 2019 (RoBERTa) found to add
nothing. Its parameters have the names of the Transformer's encoder, which can start from them.

Shapes: R rows of packed texts, L their width, K masked tokens a row, D width, V vocabulary.
"""

import re
from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor, nn

from mtrain.config.model import BertConfig
from mtrain.data.batch import Batch, MaskedBatch
from mtrain.models.base import NO_RECORD, AttentionRecord, Model, Predictions
from mtrain.nn.attention import sentence_mask
from mtrain.nn.block_sparse import layer_masks, new_pattern, spans_of_sentences
from mtrain.nn.embeddings import Combination, tied_embeddings
from mtrain.nn.layers import (
    ACTIVATIONS,
    LayerCall,
    LayerShape,
    SelfAttentionLayer,
    call_layer,
)
from mtrain.nn.positions import POSITIONS
from mtrain.nn.stacked import StackedLinear

# How the tensors of a Transformer's decoder are called in a BERT that they start from. What attends
# to the source has no counterpart.
ORIGINS = (
    (r"decoder\.(\d+)\.residuals\.2\.", r"encoder.\1.residuals.1."),
    (r"decoder\.(\d+)\.(self_attention|feed_forward|residuals\.0)\.", r"encoder.\1.\2."),
    (r"decoder_norm\.", "encoder_norm."),
    (r"target_(embedding|positions|combined)\.", r"source_\1."),
)


def origin_in_bert(name: str) -> str:
    """Return the name of the tensor in a BERT that a Transformer's tensor starts from."""
    for pattern, origin in ORIGINS:
        if re.match(pattern, name):
            return re.sub(pattern, origin, name, count=1)
    return name


class Bert(Model):
    """An encoder, and a layer that prepares its states for the output matrix."""

    def __init__(self, config: BertConfig, vocab_size: int, _target_vocab: int) -> None:
        super().__init__()
        self.max_positions = config.max_positions
        self.full_up_to = config.encoder_attention.full_up_to(config.max_positions)
        self.num_layers, self.num_heads = config.encoder_layers, config.num_heads
        self._call: LayerCall = call_layer
        self._pattern = new_pattern(config.encoder_attention.pattern)
        self.is_capturable = self._pattern is None
        self.export_limits = config.export_limits
        width, shape = config.d_model, LayerShape(**config.layer)
        self.source_positions = POSITIONS[config.positions](
            config.max_positions, width, config.num_heads
        )
        self.source_combined = Combination(
            width, config.dropout, config.embedding_norm, config.norm_epsilon
        )
        self.encoder = nn.ModuleList(
            SelfAttentionLayer(shape) for _ in range(config.encoder_layers)
        )
        self.encoder_norm = shape.last_norm()
        self.prediction = StackedLinear(width, width, 1)
        self.prediction_norm = shape.new_norm()
        self._activation = ACTIVATIONS[config.activation]
        tied = tied_embeddings(
            "all", vocab_size, vocab_size, width, config.token_dropout, output_bias=True
        )
        self.source_embedding, self.output = tied[0], tied[2]

    def forward(self, batch: Batch, record: AttentionRecord = NO_RECORD) -> Predictions:
        """Return the features (R*K,D) and the right tokens of the masked places."""
        assert isinstance(batch, MaskedBatch)
        return self.predictions(self.hidden_states(batch, record), batch)

    def predictions(self, states: Tensor, batch: MaskedBatch) -> Predictions:
        """Return the features and the right tokens of the masked places of states (R,L,D)."""
        rows = torch.arange(len(states), device=states.device)[:, None]
        features = self.features(states[rows, batch.masked].flatten(0, 1))
        return Predictions(features, batch.targets.flatten(), has_static_shape=True)

    def hidden_states(
        self,
        batch: MaskedBatch,
        record: AttentionRecord = NO_RECORD,
        num_layers: int | None = None,
    ) -> Tensor:
        """Return the states (R,L,D) of the last layer, or of the last of `num_layers`."""
        embedded = self.source_embedding(batch.tokens), self.source_positions(batch.positions)
        x: Tensor = self.source_combined(*embedded)
        masks = layer_masks(
            self._pattern,
            batch.tokens,
            lambda: sentence_mask(batch.sentences, batch.sentences),
            lambda: spans_of_sentences(batch.sentences),
            self.num_layers if num_layers is None else num_layers,
        )
        rotate = self.source_positions.rotate(batch.positions)
        layers = zip(islice(self.encoder, num_layers), masks, strict=True)
        for number, (layer, mask) in enumerate(layers):
            x = self._call(layer, x, mask, rotate, record.list_for("encoder", number))
        is_whole = num_layers in (None, self.num_layers)
        states: Tensor = self.encoder_norm(x) if is_whole else x
        return states

    def features(self, states: Tensor) -> Tensor:
        """Return what the output layer reads, (...,D), for states (...,D)."""
        features: Tensor = self.prediction_norm(self._activation(self.prediction(states)))
        return features

    def attention(self, batch: MaskedBatch) -> dict[str, Tensor]:
        """Return the attention weights, shape (R, layers, heads, L, L), as kind `encoder`."""
        record = AttentionRecord()
        self.hidden_states(batch, record)
        return record.by_kind()

    @property
    def layers(self) -> Sequence[nn.Module]:
        return list(self.encoder)

    def compile_layers(self) -> None:
        self._call = torch.compile(call_layer, dynamic=False)

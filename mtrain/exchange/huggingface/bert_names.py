"""The names of a BERT's weights in Hugging Face's layouts: BERT, BigBird, RoBERTa, DistilBERT.

Where mtrain stacks several matrices in one weight, they have one name each.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

Names = Mapping[str, tuple[str, ...]]

_BERT_LAYER = {
    "self_attention.in_projection": (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
    ),
    "self_attention.out_projection": ("attention.output.dense",),
    "residuals.0.norm": ("attention.output.LayerNorm",),
    "feed_forward.inner": ("intermediate.dense",),
    "feed_forward.outer": ("output.dense",),
    "residuals.1.norm": ("output.LayerNorm",),
}
_DISTILBERT_LAYER = {
    "self_attention.in_projection": ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    "self_attention.out_projection": ("attention.out_lin",),
    "residuals.0.norm": ("sa_layer_norm",),
    "feed_forward.inner": ("ffn.lin1",),
    "feed_forward.outer": ("ffn.lin2",),
    "residuals.1.norm": ("output_layer_norm",),
}
# keys of config.json, by ours
_BERT_KEYS = {
    "d_model": "hidden_size",
    "encoder_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "ffn_dim": "intermediate_size",
    "activation": "hidden_act",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "norm_epsilon": "layer_norm_eps",
    "max_positions": "max_position_embeddings",
}
_BERT_USUAL = {"hidden_act": "gelu", "layer_norm_eps": 1e-12}


@dataclass(frozen=True)
class BertLayout:
    """What a layout calls its weights and its settings."""

    prefix: str  # of all but the head; a model without a head has none
    layers: str
    layer: Names
    head: Names
    output_biases: tuple[str, ...]  # one, under one or several names
    output_matrix: str  # that of the embeddings; stored by some
    keys: Mapping[str, str] = field(default_factory=lambda: _BERT_KEYS)
    attention_keys: Mapping[str, str] = field(default_factory=dict)  # those of encoder_attention
    # what holds where config.json does not say
    usual: Mapping[str, object] = field(default_factory=lambda: _BERT_USUAL)
    has_token_types: bool = True
    begins_after_padding: bool = False  # the first position is one after that of the padding
    fixed: Mapping[str, object] = field(default_factory=dict)  # our settings that it does not tell

    def encoder_names(self, num_layers: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the name of each weight below the head but tables, and those of its parts there.

        Those there are without the prefix.
        """
        for kind in ("weight", "bias"):
            yield f"source_combined.norm.{kind}", (f"embeddings.LayerNorm.{kind}",)
            for layer in range(num_layers):
                for ours, theirs in self.layer.items():
                    parts = (f"{self.layers}.{layer}.{part}.{kind}" for part in theirs)
                    yield f"encoder.{layer}.{ours}.{kind}", tuple(parts)

    def head_names(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield the name of each weight of the head but the output layer, and its name there."""
        for kind in ("weight", "bias"):
            for ours, (theirs,) in self.head.items():
                yield f"{ours}.{kind}", (f"{theirs}.{kind}",)


BERT = BertLayout(
    "bert.",
    "encoder.layer",
    _BERT_LAYER,
    {
        "prediction": ("cls.predictions.transform.dense",),
        "prediction_norm": ("cls.predictions.transform.LayerNorm",),
    },
    ("cls.predictions.bias", "cls.predictions.decoder.bias"),
    "cls.predictions.decoder.weight",
)
BIG_BIRD = replace(
    BERT,
    attention_keys={
        "type": "attention_type",
        "block_size": "block_size",
        "random_blocks": "num_random_blocks",
    },
    usual={
        **_BERT_USUAL,
        "hidden_act": "gelu_new",
        "attention_type": "block_sparse",
        "max_position_embeddings": 4096,
    },
)
ROBERTA = BertLayout(
    "roberta.",
    "encoder.layer",
    _BERT_LAYER,
    {"prediction": ("lm_head.dense",), "prediction_norm": ("lm_head.layer_norm",)},
    ("lm_head.bias", "lm_head.decoder.bias"),
    "lm_head.decoder.weight",
    begins_after_padding=True,
)
DISTILBERT = BertLayout(
    "distilbert.",
    "transformer.layer",
    _DISTILBERT_LAYER,
    {"prediction": ("vocab_transform",), "prediction_norm": ("vocab_layer_norm",)},
    ("vocab_projector.bias",),
    "vocab_projector.weight",
    {
        "d_model": "dim",
        "encoder_layers": "n_layers",
        "num_heads": "n_heads",
        "ffn_dim": "hidden_dim",
        "activation": "activation",
        "dropout": "dropout",
        "attention_dropout": "attention_dropout",
        "max_positions": "max_position_embeddings",
    },
    usual={"activation": "gelu"},
    has_token_types=False,
    fixed={"norm_epsilon": 1e-12},
)
BERT_LAYOUTS = {
    "bert": BERT,
    "big_bird": BIG_BIRD,
    "distilbert": DISTILBERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
}

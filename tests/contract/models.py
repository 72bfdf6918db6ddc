"""The models that must pass the contract. A later architecture is one more entry."""

from typing import Any

from mtrain.config import Config
from mtrain.models import TranslationModel, build_model

SOURCE_VOCAB, TARGET_VOCAB = 23, 29  # sizes that no other dimension has
FEATURE_WIDTH = 13

_TRANSFORMER = {
    "type": "transformer",
    "encoder_layers": 2,
    "decoder_layers": 2,
    "d_model": 32,
    "num_heads": 4,
    "ffn_dim": 48,
    "max_positions": 40,
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "norm": "pre",
    "positions": "sinusoidal",
    "tie_embeddings": "all",
}

# a block attends to 3 blocks, so that 4 tokens are sparse
_SPARSE = {"type": "block_sparse", "block_size": 1, "window_blocks": 1, "global_blocks": 1,
           "random_blocks": 1}  # fmt: skip
_MODERN = {"positions": "rotary", "norm_type": "rms", "activation": "swiglu"}
_DECODER_ONLY = {"type": "decoder_only", **{key: value for key, value in _TRANSFORMER.items()
                                            if key not in ("type", "encoder_layers")}}  # fmt: skip
_RNN = {
    "type": "rnn",
    "embedding_dim": 24,
    "hidden_dim": 32,
    "max_positions": 40,
    "dropout": 0.1,
    "tie_embeddings": "all",
}

# every two values together at least once
_EACH_WITH_EACH = (
    ("pre", "sinusoidal", "all"),
    ("post", "learned", "all"),
    ("pre", "learned", "decoder"),
    ("post", "sinusoidal", "decoder"),
    ("pre", "sinusoidal", "none"),
    ("post", "learned", "none"),
)

MODELS: dict[str, dict[str, Any]] = {
    **{
        f"transformer-{norm}-{positions}-{tied}": {
            **_TRANSFORMER,
            "norm": norm,
            "positions": positions,
            "tie_embeddings": tied,
        }
        for norm, positions, tied in _EACH_WITH_EACH
    },
    "transformer-gelu": {**_TRANSFORMER, "activation": "gelu"},
    "transformer-gelu-tanh": {**_TRANSFORMER, "activation": "gelu_tanh"},
    "transformer-silu": {**_TRANSFORMER, "activation": "silu"},
    "transformer-deep-encoder": {**_TRANSFORMER, "encoder_layers": 6, "decoder_layers": 1,
                                 "output_bias": True, "token_dropout": 0.1},
    "transformer-modern": {**_TRANSFORMER, **_MODERN},
    "transformer-sparse": {**_TRANSFORMER, "encoder_attention": _SPARSE},
    "decoder-only": {**_DECODER_ONLY, "positions": "learned"},
    "decoder-only-causal": {**_DECODER_ONLY, "source_attention": "causal", "source_loss": True},
    "decoder-only-modern": {**_DECODER_ONLY, **_MODERN, "tie_embeddings": "decoder",
                            "token_dropout": 0.1},
    "rnn-sutskever": {**_RNN, "cell": "lstm", "encoder_layers": 2, "decoder_layers": 2,
                      "bidirectional_layers": 0, "attention": "none"},
    "rnn-cho": {**_RNN, "attention": "none"},
    "rnn-bahdanau": _RNN,
    "rnn-bahdanau-deep": {**_RNN, "cell": "lstm", "encoder_layers": 2, "decoder_layers": 2,
                          "token_dropout": 0.1},
    "rnn-luong": {**_RNN, "cell": "lstm", "attention": "general", "query": "top",
                  "input_feeding": True, "readout": "tanh", "decoder_layers": 2},
    "rnn-dot": {**_RNN, "attention": "dot", "query": "top", "bidirectional_layers": 0,
                "tie_embeddings": "none"},
    "rnn-gnmt": {**_RNN, "cell": "lstm", "encoder_layers": 4, "decoder_layers": 4,
                 "query": "bottom", "residual": True, "tie_embeddings": "decoder"},
}  # fmt: skip


def new_model(name: str, **settings: Any) -> TranslationModel:
    """Build a model of `MODELS` with newly drawn weights, some of its settings changed."""
    model = {**MODELS[name], **{key: settings[key] for key in settings.keys() & MODELS[name]}}
    return build(model)


def build(model: dict[str, Any]) -> TranslationModel:
    """Build the model of a section `model`, with newly drawn weights."""
    shares = model["tie_embeddings"] == "all"
    nowhere = [{"source": "nowhere", "target": "nowhere"}]
    config = Config.model_validate(
        {
            "run_dir": "nowhere",
            "data": {
                "source_lang": "xx",
                "target_lang": "yy",
                "train": nowhere,
                "valid": nowhere,
                "filters": {"max_tokens": model["max_positions"]},
            },
            "tokenizer": {"shared": shares},
            "model": model,
        }
    )
    source_vocab = TARGET_VOCAB if shares else SOURCE_VOCAB
    built = build_model(config, source_vocab, TARGET_VOCAB, FEATURE_WIDTH)
    assert isinstance(built, TranslationModel)
    return built

"""The Transformer against its published reference: `transformers`' Marian, at tiny size."""

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from mtrain.checkpoints.weights import put_weights
from mtrain.config.model import TransformerConfig
from mtrain.exchange.huggingface.names import stack_names
from mtrain.models.transformer import Transformer
from tests.in_process import EOS_ID, make_batch, real_places

VOCAB = 31
LAYERS, HEADS, FFN_DIM, POSITIONS = 2, 4, 40, 24


def marian(activation: str) -> Any:
    """Return a Marian model with random weights, none of them 0 or 1."""
    torch.manual_seed(1)
    config = transformers.MarianConfig(
        vocab_size=VOCAB,
        d_model=16,
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        encoder_attention_heads=HEADS,
        decoder_attention_heads=HEADS,
        encoder_ffn_dim=FFN_DIM,
        decoder_ffn_dim=FFN_DIM,
        activation_function=activation,
        max_position_embeddings=POSITIONS,
        static_position_embeddings=True,
        scale_embedding=True,
        share_encoder_decoder_embeddings=True,
        pad_token_id=0,
        eos_token_id=EOS_ID,
        decoder_start_token_id=0,
    )
    model = transformers.MarianMTModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    assert not model.final_logits_bias.any()
    return model


def ours(reference: Any, activation: str) -> Transformer:
    """Return mtrain's model with the reference's weights."""
    config = TransformerConfig(
        encoder_layers=LAYERS,
        decoder_layers=LAYERS,
        d_model=16,
        num_heads=HEADS,
        ffn_dim=FFN_DIM,
        activation=activation,
        norm="post",
        positions="sinusoidal",
        max_positions=POSITIONS,
        tie_embeddings="all",
    )
    model = Transformer(config, VOCAB, VOCAB)
    put_weights(model, renamed(reference.state_dict(), config))
    return model.eval()


def renamed(theirs: dict[str, Tensor], config: TransformerConfig) -> dict[str, Tensor]:
    """Return Marian's weights by mtrain's names."""
    weights = {"source_embedding.weight": theirs["model.shared.weight"]}
    for name, parts in stack_names(config):
        weights[name] = torch.cat([theirs[part] for part in parts])
    return weights


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@torch.inference_mode()
def test_logits_equal_marians(activation: str) -> None:
    """With padding, and token by token as well as all at once."""
    reference = marian(activation)
    model = ours(reference, activation)
    batch = make_batch([(9, 4), (3, 11), (6, 6)], VOCAB, VOCAB)
    is_source = torch.arange(batch.source.shape[1]) < batch.source_lengths[:, None]
    real = real_places(batch)
    expected = reference(
        input_ids=batch.source.masked_fill(~is_source, 0),
        attention_mask=is_source.long(),
        decoder_input_ids=batch.target_in,
    ).logits
    torch.testing.assert_close(model.logits(batch)[real], expected[real], atol=2e-5, rtol=1e-4)

    state = model.encode(batch.source, batch.source_lengths)
    for place in range(batch.target_in.shape[1]):
        logits, state = model.step(batch.target_in[:, place : place + 1], state)
        torch.testing.assert_close(logits[:, 0], expected[:, place], atol=2e-5, rtol=1e-4)

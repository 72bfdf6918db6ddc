"""The names of a Transformer's weights in Hugging Face's BART family: Pegasus, Marian.

Where mtrain stacks several matrices in one weight, they have one name each. Names of activations
are those of all layouts.
"""

from collections.abc import Iterator

from torch import Tensor, nn

from mtrain.config.model import TransformerConfig

# activations by their names there, the one that is written first
ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh",
               "gelu_pytorch_tanh": "gelu_tanh", "silu": "silu", "swish": "silu"}  # fmt: skip
WRITTEN_ACTIVATIONS = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
ENCODER = {
    "self_attention.in_projection": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attention.out_projection": ("self_attn.out_proj",),
    "feed_forward.inner": ("fc1",),
    "feed_forward.outer": ("fc2",),
    "residuals.0.norm": ("self_attn_layer_norm",),
    "residuals.1.norm": ("final_layer_norm",),
}
DECODER = {
    **ENCODER,
    "cross_attention.query_projection": ("encoder_attn.q_proj",),
    "cross_attention.memory_projection": ("encoder_attn.k_proj", "encoder_attn.v_proj"),
    "cross_attention.out_projection": ("encoder_attn.out_proj",),
    "residuals.1.norm": ("encoder_attn_layer_norm",),
    "residuals.2.norm": ("final_layer_norm",),
}


def stack_names(config: TransformerConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the name of each weight of the two stacks, and those of its parts there."""
    stacks = (("encoder", ENCODER, config.encoder_layers),
              ("decoder", DECODER, config.decoder_layers))  # fmt: skip
    for stack, names, num_layers in stacks:
        for kind in ("weight", "bias"):
            for layer in range(num_layers):
                for ours, theirs in names.items():
                    parts = (f"model.{stack}.layers.{layer}.{part}.{kind}" for part in theirs)
                    yield f"{stack}.{layer}.{ours}.{kind}", tuple(parts)
            if config.norm == "pre":
                yield f"{stack}_norm.{kind}", (f"model.{stack}.layer_norm.{kind}",)


def stack_tensors(model: nn.Module, config: TransformerConfig) -> dict[str, Tensor]:
    """Return the weights of the two stacks by their names there."""
    weights = dict(model.named_parameters())
    return {
        name: part.detach()
        for ours, theirs in stack_names(config)
        for name, part in zip(theirs, weights[ours].chunk(len(theirs)), strict=True)
    }

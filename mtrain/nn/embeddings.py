"""Embeddings and the output matrix, with weight tying (Press and Wolf 2017).

Shapes: D width; V a vocabulary.
"""

from torch import nn

from mtrain.nn.output import OutputLayer


def tied_embeddings(
    tie: str, source_vocab: int, target_vocab: int, width: int, output_bias: bool = False
) -> tuple[nn.Embedding, nn.Embedding, OutputLayer]:
    """Return source embedding (V,D), target embedding (V,D), and the output layer D to V.

    `tie` says which share one matrix: `all`, `decoder` (the last two) or `none`.
    """
    source, target = (_embedding(size, width) for size in (source_vocab, target_vocab))
    output = OutputLayer(width, target_vocab, output_bias)
    if tie in ("all", "decoder"):
        output.weight = target.weight
    if tie == "all":
        assert source_vocab == target_vocab, "only one vocabulary can be tied to itself"
        source.weight = target.weight
    return source, target, output


def _embedding(vocab_size: int, width: int) -> nn.Embedding:
    embedding = nn.Embedding(vocab_size, width)
    nn.init.normal_(embedding.weight, std=width**-0.5)
    return embedding

"""Embeddings and the output matrix, with weight tying (Press and Wolf 2017).

Shapes: D width; V a vocabulary.
"""

from torch import Tensor, nn

from mtrain.nn.dropout import cut_tokens, dropout
from mtrain.nn.output import OutputLayer


class TokenEmbedding(nn.Embedding):
    """Embeddings of tokens; in training, and inside `cutting_tokens`, zeros for a share of them."""

    def __init__(self, vocab_size: int, width: int, token_dropout: float) -> None:
        super().__init__(vocab_size, width)
        self.token_dropout = token_dropout
        nn.init.normal_(self.weight, std=width**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (...,D) for tokens (...)."""
        return cut_tokens(super().forward(tokens), self.token_dropout if self.training else 0.0)


class Combination(nn.Module):
    """Adds embeddings and positions, then dropout.

    With a norm, it normalises the sum (Devlin 2019); without, it scales the embeddings by the
    square root of the width (Vaswani 2017, section 3.4).
    """

    def __init__(self, width: int, dropout: float, has_norm: bool, epsilon: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, epsilon) if has_norm else None
        self.scale = width**0.5
        self.dropout = dropout

    def forward(self, embeddings: Tensor, positions: Tensor) -> Tensor:
        """Return (...,D) for embeddings (...,D) and positions that broadcast to them."""
        if self.norm is None:
            x = embeddings * self.scale + positions
        else:
            x = self.norm(embeddings + positions)
        return dropout(x, self.dropout, self.training)


def tied_embeddings(
    tie: str,
    source_vocab: int,
    target_vocab: int,
    width: int,
    token_dropout: float,
    output_bias: bool = False,
) -> tuple[nn.Embedding, nn.Embedding, OutputLayer]:
    """Return source embedding (V,D), target embedding (V,D), and the output layer D to V.

    `tie` says which share one matrix: `all`, `decoder` (the last two) or `none`.
    """
    source, target = (TokenEmbedding(size, width, token_dropout)
                      for size in (source_vocab, target_vocab))  # fmt: skip
    output = OutputLayer(width, target_vocab, output_bias)
    if tie in ("all", "decoder"):
        output.weight = target.weight
    if tie == "all":
        assert source_vocab == target_vocab, "only one vocabulary can be tied to itself"
        source.weight = target.weight
    return source, target, output

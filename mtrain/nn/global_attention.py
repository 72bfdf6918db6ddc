"""Attention of a recurrent decoder over all states of the encoder.

Shapes: B sentences, K queries a sentence, S source length, Q width of a query, M width of the
memory (the encoder's states), A width of the alignment model.
"""

import torch
from torch import Tensor, nn


class GlobalAttention(nn.Module):
    """Attention from decoder queries to the memory.

    The score of a query q and a state h is, by name:
    additive: v' tanh(W q + U h + b), Bahdanau et al. 2015, A.1.2;
    dot: q' h, and general: q' W h, Luong et al. 2015, section 3.1.

    Additive attention keeps B*K*S*A numbers for its gradient, over all steps of a target. With
    4,096 tokens in sentences of 250, and A = 512, they take 2 GB.
    """

    def __init__(self, score: str, query_dim: int, memory_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.score = score
        if score == "additive":
            self.query_projection = nn.Linear(query_dim, hidden_dim, bias=False)
            self.memory_projection = nn.Linear(memory_dim, hidden_dim)
            self.energy = nn.Parameter(torch.empty(hidden_dim))
            nn.init.xavier_uniform_(self.query_projection.weight)
            nn.init.xavier_uniform_(self.memory_projection.weight)
            nn.init.zeros_(self.memory_projection.bias)
            nn.init.normal_(self.energy, std=hidden_dim**-0.5)
        elif score == "general":
            self.memory_projection = nn.Linear(memory_dim, query_dim, bias=False)
            nn.init.xavier_uniform_(self.memory_projection.weight)

    def project_memory(self, memory: Tensor) -> Tensor:
        """Project the memory (B,S,M) to keys (B,S,A or Q), the same for every query."""
        return memory if self.score == "dot" else self.memory_projection(memory)

    def forward(
        self, query: Tensor, keys: Tensor, memory: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return contexts (B,K,M) and weights (B,K,S) of queries (B,K,Q); mask (B,1,S) is added."""
        if self.score == "additive":
            hidden = torch.tanh(self.query_projection(query)[:, :, None] + keys[:, None])
            scores = hidden @ self.energy
        else:
            scores = query @ keys.transpose(1, 2)
        weights = (scores.float() + mask).softmax(dim=-1)
        return weights.to(memory.dtype) @ memory, weights

"""Recurrent layers: GRU (Cho et al. 2014) and LSTM (Hochreiter and Schmidhuber 1997).

Whole sequences run in torch's fused kernels. `step` and `step_from` run one step with the same
weights, for search and for recurrences that include attention.

Shapes: B sentences, L length, I width of the input, H width of the state, N rows of any number
of dimensions. A state is (hidden,) or, for an LSTM, (hidden, cell), each (N,H).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CellState = tuple[Tensor, ...]

GATES = {"gru": 3, "lstm": 4}


class RecurrentLayer(nn.Module):
    """One direction of one layer."""

    def __init__(self, cell: str, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.cell = cell
        kind = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
        self.kernel = kind(input_dim, hidden_dim, batch_first=True)
        for weight in self.kernel.weight_ih_l0.chunk(GATES[cell]):
            nn.init.xavier_uniform_(weight)
        for weight in self.kernel.weight_hh_l0.chunk(GATES[cell]):
            nn.init.orthogonal_(weight)
        nn.init.zeros_(self.kernel.bias_ih_l0)
        nn.init.zeros_(self.kernel.bias_hh_l0)
        if cell == "lstm":  # forget bias of 1 (Jozefowicz et al. 2015)
            nn.init.ones_(self.kernel.bias_ih_l0.chunk(4)[1])

    def forward(self, x: Tensor, state: CellState | None = None) -> Tensor:
        """Return the states (B,L,H) after each input of x (B,L,I), from a state (B,H) or zeros."""
        first = tuple(part[None].contiguous() for part in state) if state else None
        out: Tensor = self.kernel(x, first[0] if first and self.cell == "gru" else first)[0]
        return out

    def project_input(self, x: Tensor, start: int = 0) -> Tensor:
        """Return what x (...,I') adds to the gates (...,G); x is the input from `start` on.

        The bias is included where `start` is 0.
        """
        weight = self.kernel.weight_ih_l0[:, start : start + x.shape[-1]]
        return F.linear(x, weight, None if start else self.kernel.bias_ih_l0)

    def step(self, x: Tensor, state: CellState) -> CellState:
        """Return the state after one more input x (N,I)."""
        return self.step_from(self.project_input(x), state)

    def step_from(self, gates: Tensor, state: CellState) -> CellState:
        """Return the state after one more input, given what it adds to the gates (N,G).

        The GRU applies the reset gate after the product with the state, like the first version of
        Cho et al. 2014 and every fused kernel, so one product serves all gates. Bahdanau et al.
        2015, A.1.1, apply it before the product.
        """
        recurrent = F.linear(state[0], self.kernel.weight_hh_l0, self.kernel.bias_hh_l0)
        if self.cell == "gru":
            reset, update, new = gates.chunk(3, dim=-1)
            old_reset, old_update, old_new = recurrent.chunk(3, dim=-1)
            update = torch.sigmoid(update + old_update)
            new = torch.tanh(new + torch.sigmoid(reset + old_reset) * old_new)
            return (torch.lerp(new, state[0].to(new.dtype), update),)
        inward, forget, new, outward = (gates + recurrent).chunk(4, dim=-1)
        cell = torch.sigmoid(forget) * state[1] + torch.sigmoid(inward) * torch.tanh(new)
        return torch.sigmoid(outward) * torch.tanh(cell), cell


class BidirectionalLayer(nn.Module):
    """Two layers, one in each reading direction (Schuster and Paliwal 1997)."""

    def __init__(self, cell: str, input_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.forward_layer = RecurrentLayer(cell, input_dim, hidden_dim)
        self.backward_layer = RecurrentLayer(cell, input_dim, hidden_dim)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return (B,L,2H) for x (B,L,I): forward state, then backward state, at each position."""
        backward = reverse(self.backward_layer(reverse(x, lengths)), lengths)
        return torch.cat([self.forward_layer(x), backward], dim=-1)


def reverse(x: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each sequence of x (B,L,I or H) within its length; the padding stays at the end.

    So padding never comes before text in either direction, and kernels need no lengths.
    """
    places = torch.arange(x.shape[1], device=x.device)
    turned = torch.where(places < lengths[:, None], lengths[:, None] - 1 - places, places)
    return x.gather(1, turned[:, :, None].expand_as(x))


def last_of(x: Tensor, lengths: Tensor) -> Tensor:
    """Return the elements (B,H) of x (B,L,H) at the last real position of each sequence."""
    return x[torch.arange(len(x), device=x.device), lengths - 1]

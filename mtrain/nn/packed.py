"""Linear layers whose weights lie as oneDNN reads them, for models that are only read."""

import torch
from torch import Tensor, nn

ROWS = 64  # of an input, about; oneDNN chooses the order of the weights by it


def can_pack() -> bool:
    """Tell whether this torch was built with oneDNN, and has what packs and multiplies."""
    names = ("_reorder_linear_weight", "_linear_pointwise")
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name) for name in names
    )


class PackedLinear(nn.Module):
    """A linear layer that is faster on few rows; it has neither gradient nor weights to save."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._bias = None if linear.bias is None else linear.bias.detach()
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS)

    def forward(self, x: Tensor) -> Tensor:
        """Return (...,O) for x (...,I)."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise.default(
            x, self._packed, self._bias, "none", [], ""
        )
        return out


def pack(model: nn.Module) -> bool:
    """Replace every linear layer by a packed one; what is tied to its weights keeps its own.

    Tells whether there were no recurrent layers, which are not packed.
    """
    is_all = not isinstance(model, nn.RNNBase)
    for name, child in list(model.named_children()):
        if isinstance(child, nn.Linear):
            setattr(model, name, PackedLinear(child))
        else:
            is_all &= pack(child)
    return is_all

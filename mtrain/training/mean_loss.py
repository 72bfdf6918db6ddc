"""The loss that training minimises, as a module: DDP and FSDP2 wrap modules."""

from torch import Tensor, nn

from mtrain.data.batch import Batch
from mtrain.models.base import Model
from mtrain.training.objectives import Objective


class MeanLoss(nn.Module):
    """An objective's loss of a model, over a number of tokens."""

    def __init__(self, model: Model, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self._objective = objective

    def forward(self, batch: Batch, num_tokens: float | Tensor) -> Tensor:
        """Return the summed loss of a batch over `num_tokens`, ()."""
        return self._objective(self.model, batch).loss / num_tokens

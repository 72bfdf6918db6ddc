"""Linear maps that are stacked in one weight, and the matrices of a model's layers.

Shapes: I width of an input, O width of the outputs together.
"""

from collections.abc import Iterator

from torch import Tensor, nn

from mtrain.nn.output import OutputLayer


class StackedLinear(nn.Linear):
    """Several linear maps of one input, of equal width, as one matrix product."""

    def __init__(self, in_features: int, out_features: int, num_maps: int) -> None:
        super().__init__(in_features, num_maps * out_features)
        self.num_maps = num_maps
        for weight in self.weight.chunk(num_maps):
            nn.init.xavier_uniform_(weight)
        nn.init.zeros_(self.bias)


def layer_matrices(model: nn.Module) -> Iterator[tuple[Tensor, int]]:
    """Yield the weight (O,I) of each linear and recurrent layer, and how many matrices it stacks.

    Leaves out embeddings and the output layer, whose rows stand for words.
    """
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            for name, weight in module.named_parameters(recurse=False):
                if name.startswith("weight"):
                    yield weight, len(weight) // module.hidden_size  # one for each gate
        elif isinstance(module, StackedLinear):
            yield module.weight, module.num_maps
        elif isinstance(module, nn.Linear) and not isinstance(module, OutputLayer):
            yield module.weight, 1

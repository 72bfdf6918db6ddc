"""Weights that are not drawn: nothing random is spent on them, and buffers are still computed."""

import pytest
import torch

from mtrain.nn.initialisation import UninitialisedWeights
from tests.contract.models import MODELS, new_model


@pytest.mark.parametrize("name", MODELS)
def test_a_model_built_without_draws_is_the_model_once_its_weights_are_loaded(name: str) -> None:
    torch.manual_seed(1)
    model = new_model(name)
    before = torch.random.get_rng_state()
    with UninitialisedWeights():
        other = new_model(name)
    if not name.startswith("rnn"):  # whose orthogonal matrices are drawn in another way
        assert torch.equal(torch.random.get_rng_state(), before)
    buffers = dict(model.named_buffers())
    for key, buffer in other.named_buffers():
        assert torch.equal(buffer, buffers[key]), key
    other.load_state_dict(model.state_dict())

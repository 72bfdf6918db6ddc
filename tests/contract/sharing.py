"""Learn a little with every model, alone or as one of several processes, and note what comes out.

As a program, for torchrun's environment: python -m tests.contract.sharing TASK OUTPUT
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from mtrain.distributed.group import ProcessGroup
from tests.contract.models import MODELS
from tests.in_process import learn, open_setup, small_config

NUM_UPDATES = 4


def learn_with_every_model(task: Path, group: ProcessGroup) -> dict[str, Tensor]:
    """Return, for each model, figures before it learns and what comes out of learning.

    These are its first validation, losses, the first update's gradients, and logits after the last.
    """
    noted = {}
    for name, model in MODELS.items():
        training = {"accumulate": 4, "batch_tokens": 64}
        setup = open_setup(small_config(task, task / "no-run", training, model), group)
        found = setup.validator.validate(setup.state.model, lambda count: None, group)
        noted[f"{name}/validation"] = torch.tensor([found.loss, found.bleu, found.chrf])
        results = learn(setup, 1, group=group)
        for key, parameter in setup.state.model.named_parameters():
            assert parameter.grad is not None
            noted[f"{name}/gradient of {key}"] = parameter.grad.clone()
        results += learn(setup, NUM_UPDATES, group=group)
        noted[f"{name}/losses"] = torch.tensor([result.loss for result in results])
        noted[f"{name}/tokens"] = torch.tensor([result.num_tokens for result in results])
        first_batch = next(setup.updates(0, 0, 0)).batches[0]
        setup.state.model.eval()
        with torch.no_grad():
            noted[f"{name}/logits"] = setup.state.model.logits(first_batch)
    return noted


def main(task: Path, output: Path) -> None:
    """Learn as this process's environment says; the first of the processes writes it down."""
    with ProcessGroup() as group:
        noted = learn_with_every_model(task, group)
        if group.is_first:
            save_file(noted, output)
    names = [(thread / "comm").read_text() for thread in Path("/proc/self/task").iterdir()]
    left = [name for name in names if "gloo" in name]
    assert not left, f"threads that may abort this process at its end: {left}"


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

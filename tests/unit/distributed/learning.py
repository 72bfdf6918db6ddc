"""What several processes do together, in one process group, and note for the tests.

As a program, for torchrun's environment:
python -m tests.unit.distributed.learning TASK OUTPUT SITTING
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mtrain.data.batch import Batch, PairBatch
from mtrain.data.folders import DataFolder, RunFolder
from mtrain.distributed.group import ProcessGroup
from mtrain.distributed.sharding import whole
from mtrain.errors import UserError
from mtrain.models.base import Model
from mtrain.runtime.precision import choose_precision
from mtrain.training.learner import build_learner
from mtrain.training.objectives import LossSums, Objective
from mtrain.training.state import TrainState
from mtrain.training.updater import Updater
from tests.in_process import learn, make_batch, open_saver, open_setup, small_config

NUM_UPDATES = 20
# each with how the processes share their work
TRAININGS: dict[str, dict[str, Any]] = {
    "ordered": {"gradient_reduction": "ordered"},
    "overlapped": {},
    "sharded": {"sharding": "full"},
}
# of a run in several sittings, each of other processes; both optimisers, and an average
RESUMED: dict[str, Any] = {"optimizer": "muon", "ema_decay": 0.9, "freeze": ["*.feed_forward.*"]}
UPDATES_A_SITTING = 3


def learn_small_task(
    task: Path, group: ProcessGroup, training: dict[str, Any]
) -> dict[str, Tensor]:
    """Return the losses of some updates, and the weights after them."""
    config = small_config(task, task / "no-run", {"accumulate": 4, **training})
    setup = open_setup(config, group)
    results = learn(setup, NUM_UPDATES, group=group)
    assert setup.state.position.epoch > 1, "no update was to have fewer batches than processes"
    losses = torch.tensor([result.loss for result in results], dtype=torch.float64)
    norms = torch.tensor([result.gradient_norm for result in results])
    weights = {name: whole(weight).detach() for name, weight in setup.state.weights.items()}
    return {"losses": losses, "norms": norms, **weights}


class Chosen(Objective):
    """Learns those vectors of a model that a batch names."""

    def __call__(self, model: Model, batch: Batch, *_: Any) -> LossSums:
        assert isinstance(batch, PairBatch)
        names = batch.source.flatten().tolist()
        loss = sum(model.get_parameter(f"vectors.{name}").sum() for name in names)
        assert isinstance(loss, Tensor)
        return LossSums(loss, loss)


class Vectors(nn.Module):
    """A model of four bare vectors, the last of them frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.vectors = nn.ParameterList(torch.ones(2) for _ in range(4))


def learn_chosen_vectors(group: ProcessGroup, training: dict[str, Any]) -> dict[str, Tensor]:
    """Return the gradients of vectors; each process uses others of them in its first batch."""
    model: Any = Vectors()
    training = {**training, "freeze": ["vectors.3"], "clip_norm": 0}
    config = small_config(Path("no-task"), Path("no-run"), training)
    precision = choose_precision("fp32", "cpu")
    state, step = build_learner(model, Chosen(), config.training, precision, group, True)
    updater = Updater(state, step, group, 1)
    batch = make_batch([(2, 1)], 9, 9)

    def naming(one: int, other: int) -> PairBatch:
        return replace(batch, source=torch.tensor([[one, other]]))

    first = [naming(0, 1 + group.rank % 2), naming(0, 0)]
    second = [naming(0, 0), naming(0, 0)]
    found = {}
    for number, batches in enumerate((first, second, first)):
        updater.update(number, batches, 2 * group.size, 1e-3)
        for name, vector in enumerate(model.vectors):
            if vector.grad is not None:
                found[f"update {number}, vector {name}"] = vector.grad.clone()
    return found


class Starving(Chosen):
    """Runs out of memory at the second batch."""

    def __init__(self) -> None:
        self._num_calls = 0

    def __call__(self, model: Model, batch: Batch, *_: Any) -> LossSums:
        self._num_calls += 1
        if self._num_calls == 2:
            raise MemoryError
        return super().__call__(model, batch)


def meet_errors(task: Path, group: ProcessGroup) -> None:
    """Ask for what cannot be done together."""
    rnn = {"type": "rnn", "embedding_dim": 8, "hidden_dim": 8, "max_positions": 40}
    config = small_config(task, task / "no-run", {"accumulate": 4, "sharding": "full"}, rnn)
    with pytest.raises(UserError, match=r"training\.sharding: full: .* is not made of layers"):
        open_setup(config, group)
    training = small_config(task, task / "no-run", {"gradient_reduction": "ordered"}).training
    model: Any = Vectors()
    precision = choose_precision("fp32", "cpu")
    state, step = build_learner(model, Starving(), training, precision, group, True)
    batches = [replace(make_batch([(2, 1)], 9, 9), source=torch.tensor([[0, 1]]))] * 2
    with pytest.raises(UserError, match="out of memory after other processes"):
        Updater(state, step, group, 1).update(0, batches, 4, 1e-3)


def sit(task: Path, run_dir: Path, number: int, group: ProcessGroup) -> dict[str, Tensor]:
    """Resume a run, validate, learn a little and save; return what there was before and after."""
    training = {**RESUMED, "accumulate": 4, "sharding": "full" if group.size > 1 else "none"}
    config = small_config(task, run_dir, training)
    setup, run = open_setup(config, group), RunFolder(run_dir)
    if group.is_first:
        run.begin(config, DataFolder(config.data_path))
    group.share(0)  # wait for it
    saver, state = open_saver(setup, run, group), setup.state
    saver.resume()
    assert state.position.update == number * UPDATES_A_SITTING
    noted = {f"before/{key}": value for key, value in everything(state).items()}
    with state.whole_model(state.average.weights) as model:
        found = setup.validator.validate(model, lambda count: None, group)
    noted["validation"] = torch.tensor([found.loss, found.bleu or 0.0, found.chrf or 0.0])
    results = learn(setup, (number + 1) * UPDATES_A_SITTING, group=group)
    noted["losses"] = torch.tensor([result.loss for result in results])
    noted |= {f"after/{key}": value for key, value in everything(state).items()}
    saver.save(None)
    saver.wait()
    return noted


def everything(state: TrainState) -> dict[str, Tensor]:
    """Return a copy of all tensors that a resume needs, whole."""
    return {key: whole(value).clone() for key, value in (state.tensors() | state.weights).items()}


def main(task: Path, output: Path, sitting: int) -> None:
    """Do it all as this process's environment says; the first of the processes writes it down."""
    noted = {}
    with ProcessGroup() as group:
        for name, training in TRAININGS.items():
            if group.size == 2 or name == "ordered":  # the others take long with four
                found = learn_small_task(task, group, training)
                noted |= {f"{name}/{key}": value for key, value in found.items()}
            found = {} if "sharding" in training else learn_chosen_vectors(group, training)
            noted |= {f"{name}/vectors/{key}": value for key, value in found.items()}
        meet_errors(task, group)
        found = sit(task, output.parent / "run", sitting, group)
        noted |= {f"sitting/{key}": value for key, value in found.items()}
        if group.is_first:
            save_file(noted, output)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))

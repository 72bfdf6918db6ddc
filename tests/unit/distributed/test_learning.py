"""Processes that learn together: as one alone, and resumed by any number of them."""

import socket
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mtrain.distributed.group import ProcessGroup
from tests.cli.warm import WarmProcess
from tests.conftest import Finished
from tests.unit.distributed.learning import learn_small_task, sit

Noted = dict[str, Tensor]


def run_together(size: int, folder: Path, *command: object) -> list[Finished]:
    """Run `python COMMAND` in several processes, in the environment that torchrun gives them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    with ExitStack() as stack:
        processes = []
        for rank in map(str, range(size)):
            variables = {**group, "RANK": rank, "LOCAL_RANK": rank}
            process = WarmProcess(folder, tuple(map(str, command)), variables=variables)
            processes.append(stack.enter_context(closing(process)))
        return [process.finish() for process in processes]


@pytest.fixture(scope="module")
def alone(small_task: Path) -> Noted:
    return learn_small_task(small_task, ProcessGroup(), {})


@dataclass(frozen=True)
class Sittings:
    """What was noted by one process, by four, by two and by one, of one run that they resumed."""

    noted: dict[int, Noted]  # by number of processes
    first: Noted
    last: Noted


@pytest.fixture(scope="module")
def sittings(small_task: Path, server: None, tmp_path_factory: pytest.TempPathFactory) -> Sittings:
    """One start of four real processes, and one of two, serve all tests."""
    folder = tmp_path_factory.mktemp("noted")
    noted, alone = {}, ProcessGroup.alone()
    first = sit(small_task, folder / "run", 0, alone)
    for sitting, size in enumerate((4, 2), start=1):
        output = folder / f"{size}.safetensors"
        command = "-m", "tests.unit.distributed.learning", small_task, output, sitting
        finished = run_together(size, small_task, *command)
        said = "".join(each.err for each in finished)
        assert [each.code for each in finished] == [0] * size, said
        noted[size] = load_file(output)
    return Sittings(noted, first, sit(small_task, folder / "run", 3, alone))


@pytest.fixture(params=[2, 4])
def together(request: pytest.FixtureRequest, sittings: Sittings) -> Noted:
    """What so many processes noted."""
    return sittings.noted[request.param]


def under(name: str, noted: Noted) -> Noted:
    prefix = f"{name}/"
    return {key.removeprefix(prefix): value for key, value in noted.items()
            if key.startswith(prefix)}  # fmt: skip


def test_gradients_added_in_order_teach_the_same_bits_as_one_process(
    alone: Noted, together: Noted
) -> None:
    found = under("ordered", together)
    assert [key for key in alone if not torch.equal(found[key], alone[key])] == []


@pytest.mark.parametrize("name", ["overlapped", "sharded"])
def test_gradients_added_otherwise_teach_the_same_to_rounding(
    name: str, alone: Noted, sittings: Sittings
) -> None:
    """Weights are not compared: AdamW makes as large a step of a gradient that is only rounding,
    such as that of a bias on attention's keys, as of any other."""
    found = under(name, sittings.noted[2])
    for key in ("losses", "norms"):
        torch.testing.assert_close(found[key], alone[key], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["ordered", "overlapped"])
def test_a_parameter_that_no_batch_uses_has_no_gradient_and_one_that_some_use_has_their_sum(
    name: str, together: Noted
) -> None:
    some = {f"update {number}, vector {vector}" for number in (0, 2) for vector in (1, 2)}
    every = {"update 0, vector 0", "update 1, vector 0", "update 2, vector 0"}
    found = under(f"{name}/vectors", together)
    assert found.keys() == some | every
    for key in some:
        assert found[key].tolist() == pytest.approx([1 / 4] * 2), key


def test_a_run_resumes_on_any_number_of_processes_with_its_weights_sharded_or_not(
    sittings: Sittings,
) -> None:
    four, two = (under("sitting", sittings.noted[size]) for size in (4, 2))
    chain = [sittings.first, four, two, sittings.last]
    for one, next_one in pairwise(chain):
        left, found = under("after", one), under("before", next_one)
        assert any(key.startswith("own/") for key in left)
        assert left.keys() == found.keys()
        assert [key for key in left if not torch.equal(left[key], found[key])] == []


def test_a_run_of_several_sittings_learns_and_validates_as_one_of_a_single_process(
    sittings: Sittings, small_task: Path, tmp_path: Path
) -> None:
    four, two = (under("sitting", sittings.noted[size]) for size in (4, 2))
    for number, found in enumerate([sittings.first, four, two, sittings.last]):
        expected = sit(small_task, tmp_path / "run", number, ProcessGroup.alone())
        for key in ("losses", "validation"):
            torch.testing.assert_close(found[key], expected[key], atol=1e-3, rtol=1e-3)

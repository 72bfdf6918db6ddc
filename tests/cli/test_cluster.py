"""`--ray`: the bytes of one process by a real Ray of two nodes, also when one of them is killed."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mtrain.checkpoints.format import load_checkpoint
from mtrain.distributed.cluster import Cluster
from mtrain.distributed.shards import Shard
from mtrain.errors import UserError, is_for_user
from tests.cli.conftest import contents
from tests.cli.test_resume import as_options
from tests.cli.test_shards import GREEDY, TEXT, beside, command, outputs
from tests.cli.warm import WarmCommandLine
from tests.conftest import succeed

ray_cluster = pytest.importorskip("ray.cluster_utils")

ALL = "--alignments", "links", "--report", "health"


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A Ray of two nodes with a core each; the second one may be gone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        head = {"num_cpus": 1, "include_dashboard": False}
        cluster = ray_cluster.Cluster(initialize_head=True, head_node_args=head)
        try:
            cluster.add_node(num_cpus=1)
            yield cluster
        finally:
            cluster.shutdown()


def test_a_killed_node_costs_its_shard_once(
    nodes: Any, warm: WarmCommandLine, trained_run: Path
) -> None:
    beside(warm, trained_run)
    (warm.folder / "in").write_bytes(TEXT * 20)
    options = *GREEDY, *as_options("decoding.buffer_lines=90"), *ALL
    succeed(warm, *command(*options))
    wanted = outputs(warm.folder)
    for name in wanted:
        (warm.folder / name).unlink()
    at_work = warm.start(*command(*options), "--ray", nodes.address, "--shards", "12")
    at_work.wait_until(lambda: len(list(warm.folder.glob(".out.shard-*-of-12.part"))) == 2)
    (second,) = nodes.worker_nodes
    nodes.remove_node(second, allow_graceful=False)
    finished = at_work.finish()
    assert finished.code == 0, finished.err
    assert "a worker has died" in finished.err
    assert "Traceback" not in finished.err
    assert outputs(warm.folder) == wanted
    assert not list(warm.folder.glob("*shard*"))


def test_a_cluster_prepares_the_data_of_one_process(
    nodes: Any, warm: WarmCommandLine, trained_run: Path
) -> None:
    shutil.copytree(trained_run.parent, warm.folder, dirs_exist_ok=True)
    for name, where in (("alone", ()), ("by-shards", ("--ray", nodes.address, "--shards", "3"))):
        succeed(warm, "prepare", "config.yaml", *as_options(f"data_dir={name}"), *where)
    alone, by_shards = contents(warm.folder / "alone"), contents(warm.folder / "by-shards")
    assert alone.keys() == by_shards.keys()
    assert [name for name in alone if alone[name] != by_shards[name]] in ([], ["manifest.json"])


@pytest.mark.parametrize("failing", [load_checkpoint, os.stat], ids=["damaged", "missing"])
def test_an_error_of_a_worker_is_that_of_one_process(
    failing: Callable[..., Any], nodes: Any, tmp_path: Path
) -> None:
    arguments = (tmp_path / "nothing", False)[: 2 if failing is load_checkpoint else 1]
    with pytest.raises((UserError, OSError)) as alone:
        failing(*arguments)
    with pytest.raises((UserError, OSError)) as far, Cluster(nodes.address) as cluster:
        cluster.run("failing", [Shard(1, 1)], partial(failing, *arguments))
    assert str(far.value) == str(alone.value)
    assert is_for_user(far.value)


def test_a_signal_stops_the_work_at_once(
    nodes: Any, warm: WarmCommandLine, trained_run: Path
) -> None:
    beside(warm, trained_run)
    (warm.folder / "in").write_bytes(TEXT * 200)
    at_work = warm.start(*command("--ray", nodes.address, "--shards", "2"))
    at_work.wait_until(lambda: any(warm.folder.glob(".out.shard-*.part")))
    at_work.send(signal.SIGTERM)
    finished = at_work.finish()
    assert finished.code == 128 + signal.SIGTERM
    assert "Traceback" not in finished.err
    assert finished.err.endswith("stopped by a signal\n")


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("127.0.0.1:9", "nothing answers there"),
        ("nowhere", "not an address"),
        ("ray://127.0.0.1:9", "nothing answers there"),
    ],
)
def test_an_address_without_a_cluster_is_named(
    address: str, told: str, warm: WarmCommandLine, trained_run: Path
) -> None:
    beside(warm, trained_run)
    finished = warm(*command("--ray", address))
    assert finished.code == 2
    assert f"--ray {address}: {told}" in finished.err
    assert set(os.listdir(warm.folder)) == {"run", "in"}


def test_one_shard_and_all_of_them_are_not_asked_for_together(
    warm: WarmCommandLine, trained_run: Path
) -> None:
    beside(warm, trained_run)
    finished = warm(*command("--ray", "local", "--shard", "1/2"))
    assert finished.code == 2
    assert "leave one of them out" in finished.err


def test_options_of_ray_are_refused_without_it(warm: WarmCommandLine, trained_run: Path) -> None:
    beside(warm, trained_run)
    finished = warm(*command("--shards", "2"))
    assert finished.code == 2
    assert "--shards and --workers are for --ray" in finished.err
    assert set(os.listdir(warm.folder)) == {"run", "in"}


def test_a_job_is_continued_with_its_own_number_of_shards(
    warm: WarmCommandLine, trained_run: Path
) -> None:
    beside(warm, trained_run)
    succeed(warm, *command(*GREEDY, "--shard", "1/2"))
    before = contents(warm.folder)
    finished = warm(*command(*GREEDY, "--ray", "local", "--shards", "3"))
    assert finished.code == 2
    assert "continue it with --shards 2" in finished.err
    assert contents(warm.folder) == before

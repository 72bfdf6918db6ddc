"""The files of `scripts/scale`, run with the variables that the schedulers set."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch.distributed.run import get_args_parser

from tests.cli.conftest import contents
from tests.cli.test_shards import beside
from tests.cli.warm import WarmCommandLine
from tests.conftest import succeed

SCALE = Path(__file__).parents[2] / "scripts" / "scale"


class Scheduler:
    """Runs a script of `scripts/scale` under the Slurm of slurm.py, with fewer shards."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, folder / "bin"
        self.bin.mkdir()
        text = (Path(__file__).parent / "slurm.py").read_text()
        for name in ("sbatch", "srun", "scontrol"):
            (self.bin / name).write_text(f"#!{sys.executable}\n{text}")
            (self.bin / name).chmod(0o755)
        for path in SCALE.glob("slurm-*.sh"):
            script = (
                path.read_text().replace("64", "2").replace("nproc-per-node 8", "nproc-per-node 1")
            )
            (folder / path.name).write_text(script)

    def start(self, *command: object, **variables: str) -> "subprocess.Popen[str]":
        """Start a command with the scheduler's programs and mtrain's on its path."""
        path = os.pathsep.join(
            [str(self.bin), str(Path(sys.executable).parent), os.environ["PATH"]]
        )
        environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **variables}
        return subprocess.Popen(
            [*map(str, command)], cwd=self.folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *command: object, **variables: str) -> str:
        """Run a command that must succeed; return what it said."""
        process = self.start(*command, **variables)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
        return said

    @property
    def requeued(self) -> str:
        """The job that has queued itself again."""
        return str(json.loads((self.bin / "queue.json").read_text())["requeued"])


@pytest.fixture
def scheduler(tmp_path: Path) -> Scheduler:
    """The scheduler in the test's own folder."""
    return Scheduler(tmp_path)


def test_slurm_translates_and_merges(
    scheduler: Scheduler, warm: WarmCommandLine, trained_run: Path
) -> None:
    beside(warm, trained_run)
    succeed(warm, "translate", "run", "in", "--output", "whole")
    scheduler.run("sbatch", "slurm-translate.sh", "run", "in", "out")
    assert (warm.folder / "out").read_bytes() == (warm.folder / "whole").read_bytes()


def test_slurm_prepares_in_two_rounds(scheduler: Scheduler, trained_copy: Path) -> None:
    shutil.move(trained_copy / "run" / "data", trained_copy / "whole")
    shutil.rmtree(trained_copy / "run")
    scheduler.run("bash", "slurm-prepare.sh", "config.yaml")
    whole, by_shards = contents(trained_copy / "whole"), contents(trained_copy / "run" / "data")
    assert whole.keys() == by_shards.keys()
    assert {name for name in whole if whole[name] != by_shards[name]} <= {"manifest.json"}


def test_slurm_trains_saves_when_the_time_is_out_and_queues_itself(
    scheduler: Scheduler, trained_copy: Path
) -> None:
    shutil.move(trained_copy / "run" / "data", trained_copy / "data")
    shutil.rmtree(trained_copy / "run")
    command = ("bash", "slurm-train.sh", "config.yaml", "--set", "data_dir=data")
    slurm = {"SLURM_NNODES": "1", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "one"}
    job = scheduler.start(*command, **slurm)
    log = trained_copy / "run" / "metrics.jsonl"
    while not (log.exists() and log.stat().st_size):
        assert job.poll() is None, job.communicate()[0]
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    said, _ = job.communicate(timeout=120)
    assert "stopped by a signal, saved after update" in said
    assert scheduler.requeued == "7"
    assert list((trained_copy / "run" / "checkpoints").iterdir())


def container(name: str) -> dict[str, Any]:
    """Return the container of a job of Kubernetes."""
    documents = yaml.safe_load_all((SCALE / name).read_text())
    (job,) = (each for each in documents if each["kind"] == "Job")
    found: dict[str, Any] = job["spec"]["template"]["spec"]["containers"][0]
    assert job["spec"]["completionMode"] == "Indexed"
    return found | {"completions": job["spec"]["completions"]}


def test_kubernetes_gives_each_container_its_shard(
    scheduler: Scheduler, warm: WarmCommandLine, trained_run: Path
) -> None:
    beside(warm, trained_run)
    (warm.folder / "runs").mkdir()
    (warm.folder / "runs" / "en-de").symlink_to(trained_run)
    (warm.folder / "in").rename(warm.folder / "news.en")
    found = container("kubernetes-translate.yaml")
    *shell, line = found["command"]
    last = str(found["completions"] - 1)
    line = line.replace("/mnt/mtrain", str(warm.folder))
    said = scheduler.run(*shell, line, JOB_COMPLETION_INDEX=last)
    assert (warm.folder / "news.de.shard-64-of-64.json").exists(), said


def test_kubernetes_and_slurm_start_torchrun_alike() -> None:
    found = container("kubernetes-train.yaml")
    by_kubernetes = get_args_parser().parse_args(found["args"])
    script = (SCALE / "slurm-train.sh").read_text().replace("\\\n", " ")
    (line,) = re.findall(r"torchrun (.*) &", script)
    line = line.replace('"$SLURM_NNODES"', "2").replace('"$@"', "x.yaml")
    by_slurm = get_args_parser().parse_args(line.replace('"', "").split())
    for option in ("nnodes", "nproc_per_node", "max_restarts", "rdzv_backend", "module"):
        assert getattr(by_kubernetes, option) == getattr(by_slurm, option)
    assert by_kubernetes.nnodes == str(found["completions"])
    assert (by_slurm.training_script, by_slurm.training_script_args[0]) == ("mtrain", "train")

"""A Slurm of one core for the scripts of `scripts/scale`: `sbatch`, `srun` and `scontrol`.

Jobs run one after the other, the tasks of an array in order, and only after those that they wait
for. A folder with links to this file under the three names goes to the front of PATH.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

QUEUE = Path(__file__).absolute().parent / "queue.json"


def sbatch(arguments: list[str]) -> int:
    """Queue a job, and run the queue unless a job is at work, which will go through it."""
    given = dict(re.findall(r"^--([\w-]+)=?(.*)$", "\n".join(arguments), re.MULTILINE))
    command = [word for word in arguments if not word.startswith("--")]
    if command:
        script = Path(command[0]).read_text()
        given = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", script, re.MULTILINE)) | given
        command = ["bash", *command]
    else:
        command = ["sh", "-c", given["wrap"]]
    state = _state()
    number = state["jobs"] = state["jobs"] + 1
    wanted = [int(each) for each in given.get("dependency", "").split(":")[1:]]
    state["waiting"].append({"number": number, "command": command, "after": wanted,
                             "array": given.get("array", "")})  # fmt: skip
    _write(state)
    print(number if "parsable" in given else f"Submitted batch job {number}")
    return _run() if "SLURM_JOB_ID" not in os.environ else 0


def _run() -> int:
    while (state := _state())["waiting"]:
        job = next(each for each in state["waiting"] if set(each["after"]) <= set(state["done"]))
        state["waiting"].remove(job)
        _write(state)
        first, _, last = job["array"].partition("-")
        tasks = range(int(first), int(last) + 1) if first else [None]
        for task in tasks:
            variables = {"SLURM_JOB_ID": str(job["number"]), "SLURM_CPUS_PER_TASK": "1"}
            if task is not None:
                variables |= {"SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": last,
                              "SLURM_ARRAY_JOB_ID": str(job["number"])}  # fmt: skip
            environment = os.environ | variables
            done = subprocess.run(job["command"], env=environment, stdout=sys.stderr, check=False)
            if done.returncode:
                return done.returncode
        state = _state()
        state["done"].append(job["number"])
        _write(state)
    return 0


def srun(arguments: list[str]) -> None:
    """Be the command."""
    command = arguments[next(n for n, word in enumerate(arguments) if not word.startswith("--")) :]
    os.execvp(command[0], command)


def scontrol(arguments: list[str]) -> int:
    """Name the only machine; note what is to be queued again."""
    if arguments[:2] == ["show", "hostnames"]:
        print("127.0.0.1")
    else:
        _write(_state() | {"requeued": arguments[1]})
    return 0


def _state() -> dict:
    if QUEUE.exists():
        return json.loads(QUEUE.read_text())
    return {"jobs": 0, "waiting": [], "done": [], "requeued": ""}


def _write(state: dict) -> None:
    QUEUE.write_text(json.dumps(state))


if __name__ == "__main__":
    verb = {"sbatch": sbatch, "srun": srun, "scontrol": scontrol}[Path(sys.argv[0]).name]
    sys.exit(verb(sys.argv[1:]))

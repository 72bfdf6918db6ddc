"""Simulates a full disk, and missing permissions even for root.

A full disk needs a separate small file system: a file size limit raises another error. Many
containers forbid mounting; only there such a test is skipped, with the system's message.
"""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CommandLine, Finished

OVERRIDING = (1, 2)  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
PR_CAPBSET_DROP = 24


def drop_override() -> None:
    """In a child that is root: give up the rights to read and write against permissions."""
    for capability in OVERRIDING:
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


class BoundCommandLine(CommandLine):
    """The command line, bound by permissions even as root."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        locked = folder / "locked"
        locked.mkdir(mode=0o555)
        tried = subprocess.run(["touch", locked / "file"], preexec_fn=drop_override, check=False)
        assert tried.returncode, "this user overrides permissions and may not give that right up"

    def start(self, *arguments: object, **options: Any) -> "subprocess.Popen[bytes]":
        return super().start(*arguments, preexec_fn=drop_override, **options)


def on_a_small_disk(folder: Path, kilobytes: int, script: str) -> Finished:
    """Run a shell script where FOLDER/disk is a disk of its own; what is on it at the end is copied
    to FOLDER/copy. The disk is gone when the script has ended.

    Where the kernel lets this user mount nothing, the test is skipped and says what refused: a
    limit of a file's size, or /dev/full, gives other errors at other calls than a full disk.
    """
    disk, copy = folder / "disk", folder / "copy"
    disk.mkdir(exist_ok=True)
    shutil.rmtree(copy, ignore_errors=True)
    mount = f"mount -t tmpfs -o size={kilobytes}k tmpfs {disk}"
    run = f"{mount} && {script}; code=$?; cp -a {disk} {copy}; exit $code"
    refusals = []
    for privileges in ([], ["--user", "--map-root-user"]):
        shell = ["unshare", "--mount", *privileges, "sh", "-c"]
        tried = subprocess.run([*shell, mount], capture_output=True, text=True, check=False)
        if tried.returncode:
            refusals.append(tried.stderr.strip())
            continue
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        finished = subprocess.run(
            [*shell, run],
            capture_output=True,
            cwd=folder,
            env=environment,
            timeout=120,
            check=False,
        )
        return Finished(finished.returncode, finished.stdout.decode(), finished.stderr.decode())
    pytest.skip(f"no file system can be mounted here: {'; '.join(refusals)}")

"""`mtrain doctor`: what is installed and found, and the one command that mends each fault.

Writes nothing but nameless probe files.
"""

import json
import os
import shlex
import shutil
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mtrain.commands.doctor_packages import package_rows
from mtrain.commands.doctor_row import BROKEN, NOTE, Row
from mtrain.commands.doctor_torch import torch_rows
from mtrain.errors import EXIT_GATE_FAILED, UserError
from mtrain.runtime.environment import hugging_face_home

LEAST_ROOM = 100 * 2**20  # bytes; a small model with its tokenizer and checkpoints


def examine() -> list[Row]:
    """Examine packages, torch, the machine and the folders that mtrain writes to."""
    packages, required_torch = package_rows()
    mtrain, *others = packages
    return [mtrain, *torch_rows(required_torch), *others, *_folder_rows()]


def as_text(rows: Sequence[Row]) -> str:
    """Return a table; what mends a row stands below it."""
    width = max(len(row.name) for row in rows)
    lines = []
    for row in rows:
        lines.append(f"{row.status:<7} {row.name:<{width}}  {row.found}")
        if row.mend:
            lines.append(f"{'':<7} {'':<{width}}  -> {row.mend}")
    return "\n".join(lines)


def as_json(rows: Sequence[Row]) -> str:
    """Return one object: `works`, false if something needed is broken, and `rows`."""
    works = all(row.status != BROKEN for row in rows)
    found = {"works": works, "rows": [asdict(row) for row in rows]}
    return json.dumps(found, ensure_ascii=False, indent=2)


def check(rows: Sequence[Row]) -> None:
    """Raise UserError, with EXIT_GATE_FAILED, if something that mtrain needs is broken."""
    broken = [row.name for row in rows if row.status == BROKEN]
    if broken:
        raise UserError(
            f"does not work: {', '.join(broken)}",
            "the lines that begin with -> say how to mend it",
            EXIT_GATE_FAILED,
        )


def folder_row(name: str, folder: Path, mend: str, fault: str = BROKEN) -> Row:
    """Return whether a folder, or the one to make it in, is writable and has room.

    `fault` is the status if it is not.
    """
    try:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        with tempfile.TemporaryFile(dir=existing) as probe:
            probe.write(b"mtrain")
            probe.flush()
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return Row(name, f"{folder}: cannot be written to ({error.strerror})", fault, mend)
    found = f"{folder}: writable, {free / 1e9:.1f} GB free"
    return Row(name, found) if free >= LEAST_ROOM else Row(name, found, fault, mend)


def _folder_rows() -> list[Row]:
    here = Path.cwd()
    mend = "cd to a folder that you may write to, on a disk with room"
    found = here.stat()
    if found.st_uid == os.geteuid() and not found.st_mode & stat.S_IWUSR:
        mend = f"chmod u+w {shlex.quote(str(here))}"
    rows = [folder_row("working folder", here, mend)]
    mend = "mkdir -p ~/tmp && export TMPDIR=~/tmp"
    try:
        rows.append(folder_row("temporary folder", Path(tempfile.gettempdir()), mend))
    except FileNotFoundError as error:
        rows.append(Row("temporary folder", str(error.strerror), BROKEN, mend))
    mend = 'export HF_HOME="$PWD/huggingface"'
    rows.append(folder_row("Hugging Face cache", hugging_face_home(), mend, NOTE))
    return rows

"""Checks that all processes see one folder, which machines must share."""

import socket
from pathlib import Path
from uuid import uuid4

from mtrain.distributed.group import ProcessGroup
from mtrain.errors import UserError


def check_shared(folder: Path, group: ProcessGroup) -> None:
    """Raise UserError, in all processes, if one does not see a file that the first writes there."""
    if group.size == 1:
        return
    name = group.gather([f".seen-by-all-{uuid4().hex}"])[0]  # that of the first
    mark = folder / name
    if group.is_first:
        mark.touch()
    group.share(0)  # wait for it
    blind = group.gather([] if mark.exists() else [f"{group.rank} on {socket.gethostname()}"])
    if group.is_first:
        mark.unlink()
    if blind:
        raise UserError(
            f"run_dir {folder}: what the first process writes there is not seen by process "
            + ", ".join(blind),
            "put run_dir on storage that all machines share, under the same path",
        )

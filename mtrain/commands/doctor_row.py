"""What `mtrain doctor` found: a row a thing, with the command that mends it."""

import shlex
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

OK = "ok"
NOTE = "note"  # something optional is missing, or slows work down
BROKEN = "broken"  # mtrain needs it


@dataclass(frozen=True)
class Row:
    """A thing, what was found, and how to mend it unless its status is OK."""

    name: str
    found: str
    status: str = OK
    mend: str = ""


def pip(command: str, *arguments: str) -> str:
    """Return a shell command that runs pip for this interpreter, whatever is on the PATH."""
    python, own = shlex.quote(sys.executable), Path(sys.executable).parent
    found = shutil.which("pip")
    program = "pip" if found and Path(found).parent == own else f"{python} -m pip"
    if find_spec("pip") is None:  # as in an environment of uv
        program = f"{python} -m ensurepip && {python} -m pip"
    return " ".join([program, command, *map(shlex.quote, arguments)])

"""Where a measurement of the lesson comes from."""

import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

from mtrain.text.tokenizer import available_cores


def origin() -> dict[str, str]:
    """Return the command, the commit, the day and the machine."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {
        "command": " ".join(sys.argv),
        "commit": done.stdout.strip() or "unknown",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": f"{platform.machine()}, {available_cores()} cores",
    }

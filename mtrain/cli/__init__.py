"""The command line, a file a verb: parse, call a command, turn errors into exit codes.

No logic of its own. A command is imported when it is called, so that help and errors in the
configuration never wait for torch.
"""

from mtrain.cli.entry import main
from mtrain.cli.verbs import app

__all__ = ["app", "main"]

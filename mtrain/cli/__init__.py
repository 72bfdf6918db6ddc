"""The command line: parses arguments, calls a command, turns errors into exit codes.

Has no other logic. Imports a command only when it is called, so that help and configuration errors
do not wait for torch.
"""

from mtrain.cli.entry import main
from mtrain.cli.verbs import app

__all__ = ["app", "main"]

"""The entry point: signals, and from every error to one message and an exit code."""

import os
import signal
import sys
from types import FrameType

import typer

from mtrain.cli.verbs import ReaderGone, app
from mtrain.console import say
from mtrain.errors import (
    EXIT_USER_ERROR,
    Interrupted,
    UserError,
    describe_system_error,
    is_out_of_memory,
)
from mtrain.runtime.environment import shorten_waiting


def main() -> None:
    """Run the command line and exit with its code."""
    shorten_waiting()
    if sys.stderr is None:  # closed: else its number would be that of the next file opened
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGHUP, _interrupt)
    try:
        app(prog_name="mtrain")
    except UserError as error:
        _complain(str(error))
        sys.exit(error.exit_code)
    except Interrupted as interrupted:
        say(interrupted.message)
        sys.exit(interrupted.exit_code)
    except ReaderGone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_USER_ERROR)
    except OSError as error:
        message = describe_system_error(error)
        if message is None:
            raise
        _complain(message)
        sys.exit(EXIT_USER_ERROR)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _complain("out of memory\na smaller model, batch_tokens or beam_size needs less")
        sys.exit(EXIT_USER_ERROR)


def _interrupt(number: int, _: FrameType | None) -> None:
    """End a command as Ctrl-C does, its files cleaned up; training waits for signals itself."""
    if number == signal.SIGHUP:  # which a closing terminal and the shell in it both send
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raise Interrupted(number, "stopped by a signal")


def _complain(text: str) -> None:
    typer.echo(f"error: {text}", err=True)

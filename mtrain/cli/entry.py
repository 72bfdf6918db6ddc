"""The entry point: handles signals, and turns each error into a message and an exit code."""

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
    if sys.stderr is None:  # closed: else the next file opened would get its descriptor
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # ignored under nohup
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
    """End a command and clean up its files, like Ctrl-C; training has handlers of its own."""
    if number == signal.SIGHUP:  # a closing terminal and its shell both send it
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raise Interrupted(number, "stopped by a signal")


def _complain(text: str) -> None:
    typer.echo(f"error: {text}", err=True)

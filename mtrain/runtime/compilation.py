"""Compilation by torch: its errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from mtrain.errors import UserError


@contextmanager
def explained_compilation(what: str, hint: str) -> Iterator[None]:
    """Raise UserError with a hint if torch cannot compile, for example without a C compiler."""
    try:
        yield
    except RuntimeError as error:
        from torch._dynamo.exc import TorchDynamoException  # imported late: few need it

        if not isinstance(error, TorchDynamoException):
            raise
        reason = " ".join(str(error).split("\n")[:2])  # who raised it, and what
        raise UserError(f"torch cannot compile {what}: {reason}", hint) from error

"""The exception for user errors, and the exit codes.

Imports nothing of mtrain. Code raises `UserError` for everything that a user can cause; any other
exception is a bug and keeps its traceback.
"""

import errno
from collections.abc import Iterable
from difflib import get_close_matches

EXIT_GATE_FAILED = 1  # no error, but a failed check, such as a score under --fail-under
EXIT_USER_ERROR = 2

OUT_OF_MEMORY_SIGNS = (
    "DefaultCPUAllocator",
    "std::bad_alloc",
    "out of memory",  # CUDA; NCCL quotes CUDA
    "_ALLOC_FAILED",  # cuBLAS, cuDNN, cuSPARSE, cuSOLVER
    "ALLOCATION_FAILED",  # cuDNN 9
)


def nearest_name(name: str, names: Iterable[str]) -> str:
    """Return `; did you mean X?` for the most similar of the names, or nothing."""
    close = get_close_matches(name, list(names), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


class UserError(Exception):
    """An error that the user can fix.

    `message` says what is wrong and names the file, line or key; `hint` says what to do. Problems
    found together share one message, one a line.
    """

    def __init__(self, message: str, hint: str = "", exit_code: int = EXIT_USER_ERROR) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[type["UserError"], tuple[str, str, int]]:
        # another process tells it alike; what a subclass was made from stays here
        return UserError, (self.message, self.hint, self.exit_code)

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class Interrupted(Exception):
    """A signal stopped the work; everything to be kept is on disk."""

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.exit_code = 128 + signal_number


def missing_extra(package: str, extra: str, purpose: str) -> UserError:
    """Return the error for an optional dependency that is not installed."""
    return UserError(
        f"{purpose} needs the package {package}, which is not installed",
        f"install it with: pip install 'mtrain[{extra}]'",
    )


def describe_system_error(error: OSError) -> str | None:
    """Return a message for a system error that the user can fix, else None."""
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}the disk is full; nothing that was complete is lost"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{where}no permission ({error.strerror})"
    of_paths = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EEXIST)
    if error.errno in (*of_paths, errno.EFBIG):
        return f"{where}{error.strerror}"
    return None


def is_for_user(error: BaseException) -> bool:
    """Tell whether the command line has a message for an error; any other one is a bug."""
    if isinstance(error, OSError):
        return describe_system_error(error) is not None
    return isinstance(error, UserError) or is_out_of_memory(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether GPU or host memory ran out.

    torch raises OutOfMemoryError for its own allocations, and a RuntimeError with the library's
    message if an allocation of a library fails.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(sign in str(error) for sign in OUT_OF_MEMORY_SIGNS)

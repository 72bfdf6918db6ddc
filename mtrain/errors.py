"""The one exception that a user is meant to see, and the exit codes.

Knows nothing of the rest of mtrain. Everything that a user can cause is raised as a
`UserError`; any other exception is a bug and keeps its traceback.
"""

import errno

EXIT_GATE_FAILED = 1  # the program worked, the answer is no: a score under --fail-under
EXIT_USER_ERROR = 2

OUT_OF_MEMORY_SIGNS = (
    "DefaultCPUAllocator",
    "std::bad_alloc",
    "out of memory",  # CUDA, and NCCL, which quotes it
    "_ALLOC_FAILED",  # cuBLAS, cuDNN, cuSPARSE, cuSOLVER
    "ALLOCATION_FAILED",  # cuDNN 9
)


class UserError(Exception):
    """What is wrong, where, and how to mend it.

    `message` names the file, line or key; `hint` says what to do. Several problems found
    together are joined into one message, a line each.
    """

    def __init__(self, message: str, hint: str = "", exit_code: int = EXIT_USER_ERROR) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class Interrupted(Exception):
    """A signal asked the work to stop, and what was to be kept is on disk."""

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
    """Return in the user's terms what the system refused, or None for what is not his doing."""
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}the disk is full; nothing that was complete is lost"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{where}no permission ({error.strerror})"
    of_paths = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EEXIST)
    if error.errno in (*of_paths, errno.EFBIG):
        return f"{where}{error.strerror}"
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether memory ran out, of the GPU or of the machine.

    torch raises an OutOfMemoryError for its own allocations; where a library under it fails to
    allocate, a RuntimeError quotes that library.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(sign in str(error) for sign in OUT_OF_MEMORY_SIGNS)

"""The one exception that a user is meant to see, and the exit codes.

Knows nothing of the rest of mtrain. Everything that a user can cause is raised as a
`UserError`; any other exception is a bug and keeps its traceback.
"""

EXIT_GATE_FAILED = 1  # the program worked, the answer is no: a score under --fail-under
EXIT_USER_ERROR = 2


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

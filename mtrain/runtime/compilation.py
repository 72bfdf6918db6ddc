"""Compilation by torch: its errors."""


def is_failed_compilation(error: RuntimeError) -> bool:
    """Tell whether torch could not compile, for example because there is no C compiler."""
    from torch._dynamo.exc import TorchDynamoException  # imported late: only compilation needs it

    return isinstance(error, TorchDynamoException)

"""Which rows of a batch a search goes on with."""


def rows_to_keep(is_open: list[bool]) -> list[int]:
    """Return the rows to go on with: the open ones, and closed ones up to one of a few numbers.

    oneDNN makes code for each new number of rows, and would be at that every step.
    """
    num_open = sum(is_open)
    step = max(1, (1 << num_open.bit_length()) // 8)
    num_kept = min(len(is_open), num_open + -num_open % step)
    kept = list(range(num_kept))  # in their places, since what is moved has to be copied
    closed = (row for row in range(num_kept) if not is_open[row])
    behind = (row for row in range(num_kept, len(is_open)) if is_open[row])
    for row, moved in zip(closed, behind, strict=False):
        kept[row] = moved
    return kept

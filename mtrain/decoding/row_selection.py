"""The rows of a batch that stay in a search."""


def rows_to_keep(is_open: list[bool]) -> list[int]:
    """Return the open rows, padded with closed rows to one of a few batch sizes.

    oneDNN generates code for each new batch size; without padding it would do so at most steps.
    """
    num_open = sum(is_open)
    step = max(1, (1 << num_open.bit_length()) // 8)
    num_kept = min(len(is_open), num_open + -num_open % step)
    kept = list(range(num_kept))  # rows keep their places: moving a row copies it
    closed = (row for row in range(num_kept) if not is_open[row])
    behind = (row for row in range(num_kept, len(is_open)) if is_open[row])
    for row, moved in zip(closed, behind, strict=False):
        kept[row] = moved
    return kept

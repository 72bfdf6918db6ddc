"""What a tokenizer cannot write: held-out targets against what their own tokens decode to.

No model scores higher than these. Knows the text of a data folder, and no metric: the caller
brings the scores.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from mtrain.text.lines import clean_target, decode_line, read_lines
from mtrain.text.tokenizer import Tokenizer, available_cores

MOST_SCORED = 5000  # lines of a set; what cannot be written is counted in all
LINES_AT_ONCE = 10_000
EXAMPLES = 3
EXAMPLE_CHARACTERS = 80
CHARACTERS_BEFORE = 30  # of an example, before the first that is written otherwise

Scores = Callable[[Sequence[str], Sequence[str]], tuple[float, float]]


def measure_ceilings(
    text_folder: Path, names: Iterable[str], tokenizer: Tokenizer, scores: Scores
) -> dict[str, dict[str, Any]]:
    """Return of each set NAME.target how many lines cannot be written, the ceiling and examples.

    `scores` takes hypotheses and references and returns corpus BLEU and chrF.
    """
    return {
        name: measure_ceiling(list(read_lines(text_folder / f"{name}.target")), tokenizer, scores)
        for name in names
    }


def measure_ceiling(
    targets: Sequence[bytes], tokenizer: Tokenizer, scores: Scores
) -> dict[str, Any]:
    """Return `lines` and how many are `changed` by encoding and decoding.

    Where some are: corpus `bleu` and `chrf` of the decoded lines, on `scored` evenly chosen ones,
    and `examples`: what was written, and what becomes of it.
    """
    wanted = list(map(clean_target, targets))  # as training sees them
    written: list[str] = []
    for start in range(0, len(wanted), LINES_AT_ONCE):
        ids = tokenizer.encode(wanted[start : start + LINES_AT_ONCE], available_cores())
        written += tokenizer.decode(ids)
    changed = [row for row, line in enumerate(wanted) if written[row] != line]
    told: dict[str, Any] = {"lines": len(wanted), "changed": len(changed)}
    if changed:
        rows = range(0, len(wanted), -(-len(wanted) // MOST_SCORED))
        references = [decode_line(targets[row])[0] for row in rows]
        bleu, chrf = scores([written[row] for row in rows], references)
        examples = [_example(wanted[row], written[row]) for row in changed[:EXAMPLES]]
        told |= {"scored": len(rows), "bleu": bleu, "chrf": chrf, "examples": examples}
    return told


def _example(wanted: str, written: str) -> tuple[str, str]:
    """Cut both from shortly before the first character in which they differ."""
    same = (a == b for a, b in zip(wanted, written, strict=False))
    place = next((place for place, is_same in enumerate(same) if not is_same), len(written))
    cut = slice(max(0, place - CHARACTERS_BEFORE), place + EXAMPLE_CHARACTERS - CHARACTERS_BEFORE)
    return wanted[cut], written[cut]

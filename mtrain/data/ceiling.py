"""Score ceilings of a tokenizer: held-out targets, encoded and decoded, against the originals.

No model scores higher than its tokenizer's ceiling. Reads the text of a data folder; the caller
passes in the metrics.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from mtrain.data.held_out import Part
from mtrain.text.lines import clean_target, decode_line, read_lines
from mtrain.text.protection import NO_PROTECTION, Protection, restore
from mtrain.text.tokenizer import Tokenizer, available_cores

MOST_SCORED = 5000  # lines of a set; `changed` counts over all lines
LINES_AT_ONCE = 10_000
EXAMPLES = 3
EXAMPLE_CHARACTERS = 80
CHARACTERS_BEFORE = 30  # of an example, shown before the first difference

Scores = Callable[..., tuple[float, float]]


def measure_ceilings(
    text_folder: Path,
    parts: Mapping[str, Sequence[Part]],
    tokenizer: Tokenizer,
    scores: Scores,
    protection: Protection = NO_PROTECTION,
) -> dict[str, dict[str, Any]]:
    """Return the `measure_ceiling` of NAME.target for each name of a held-out set.

    A set with several target languages has an entry for each of them. `scores` takes hypotheses,
    references and their language and returns corpus BLEU and chrF.
    """
    found = {}
    for name, of_set in parts.items():
        lines = read_lines(text_folder / f"{name}.target")
        targets: dict[str, list[bytes]] = {}
        for part in of_set:
            targets.setdefault(part.languages[1], []).extend(islice(lines, part.lines))
        for language, texts in targets.items():
            label = name if len(targets) == 1 else f"{name} in {language}"
            of_language = partial(scores, target_lang=language)
            found[label] = measure_ceiling(texts, tokenizer, of_language, protection)
    return found


def measure_ceiling(
    targets: Sequence[bytes],
    tokenizer: Tokenizer,
    scores: Scores,
    protection: Protection = NO_PROTECTION,
) -> dict[str, Any]:
    """Return the number of `lines`, and how many are `changed` by encoding and decoding.

    What is protected does not change.

    If any are, also return corpus `bleu` and `chrf` of the decoded lines, over `scored` evenly
    spaced lines, and `examples`: pairs of the original and the decoded line.
    """
    wanted = list(map(clean_target, targets))  # cleaned as in training
    written: list[str] = []
    for start in range(0, len(wanted), LINES_AT_ONCE):
        masked = list(map(protection.protect, wanted[start : start + LINES_AT_ONCE]))
        ids = tokenizer.encode([each.text for each in masked], available_cores())
        written += [restore(text, each.contents).text
                    for text, each in zip(tokenizer.decode(ids), masked, strict=True)]  # fmt: skip
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
    """Cut both lines to a window that begins shortly before their first difference."""
    same = (a == b for a, b in zip(wanted, written, strict=False))
    place = next((place for place, is_same in enumerate(same) if not is_same), len(written))
    cut = slice(max(0, place - CHARACTERS_BEFORE), place + EXAMPLE_CHARACTERS - CHARACTERS_BEFORE)
    return wanted[cut], written[cut]

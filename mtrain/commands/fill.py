"""`mtrain fill`: the likeliest words for each masked token of a text."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mtrain.config.purpose import check_fills
from mtrain.console import progress, say, warn
from mtrain.data.folders import OpenedRun
from mtrain.decoding.stream import arriving_blocks, full_blocks
from mtrain.inference.filling import FilledLine
from mtrain.inference.load import load_run
from mtrain.text.lines import STREAM, open_bytes, refuse_early, warn_of_invalid
from mtrain.text.streams import open_output
from mtrain.text.tokenizer import MASK


@dataclass
class _Tally:
    """Counts of the lines of one file by outcome."""

    lines: int = 0
    without_mask: int = 0
    long: int = 0
    invalid: int = 0
    masks: int = 0

    def note(self, line: FilledLine) -> None:
        self.lines += 1
        self.without_mask += not line.masks
        self.long += line.is_long
        self.invalid += not line.is_valid_text
        self.masks += len(line.masks)

    def __str__(self) -> str:
        return (
            f"{self.lines} lines: {self.lines - self.without_mask} with {self.masks} masks, "
            f"{self.without_mask} without, {self.long} longer than the model reads at once, "
            f"{self.invalid} with invalid UTF-8 replaced"
        )


def fill(
    opened: OpenedRun,
    input_path: Path | None,
    output_path: Path | None,
    top: int,
    checkpoint_name: str | None,
) -> None:
    """Write the `top` likeliest words for each mask of a file or stdin, with probabilities.

    Each is a line `line number ||| mask number ||| word ||| probability`, numbers from 1. A line
    without a mask gives none, with a warning. A file appears when it is complete.
    """
    check_fills(opened[1])
    with open_output(output_path) as sink:
        _fill(opened, input_path, sink, top, checkpoint_name)


def _fill(
    opened: OpenedRun,
    input_path: Path | None,
    sink: BinaryIO,
    top: int,
    checkpoint_name: str | None,
) -> None:
    is_stream = input_path in (None, STREAM) or not input_path.is_file()
    refuse_early(input_path)
    loaded = load_run(*opened, checkpoint_name)
    filler = loaded.filler()
    filler.check_top(top)
    tally, num_read = _Tally(), 0
    with open_bytes(input_path) as source, progress("filling") as shown:
        blocks = arriving_blocks if is_stream else full_blocks
        for block in blocks(source, loaded.config.decoding.buffer_lines):
            num_read += len(block)
            if share := source.share_read():
                shown.advance(0, total=round(num_read / share))
            for line in filler.fill(block, top, shown.advance):
                tally.note(line)
                sink.write(_format(line, tally.lines))
            sink.flush()
    where = input_path or "stdin"
    if tally.without_mask:
        warn(f"{where}: {tally.without_mask} lines have no {MASK}: nothing is written for them")
    if tally.long:
        warn(
            f"{where}: {tally.long} lines are longer than the {filler.max_ids} tokens that the "
            "model reads at once: each mask was filled from the tokens around it"
        )
    warn_of_invalid(where, tally.invalid)
    say(f"{where}: {tally}")


def _format(line: FilledLine, number: int) -> bytes:
    return "".join(
        f"{number} ||| {mask} ||| {guess.word} ||| {guess.probability:.6f}\n"
        for mask, guesses in enumerate(line.masks, start=1)
        for guess in guesses
    ).encode()

"""`mtrain translate`: lines in, as many lines out, in the same order."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

from mtrain.commands.loading import load_translator
from mtrain.console import progress, say, warn
from mtrain.data.folders import RunFolder
from mtrain.decoding.stream import LineTally, arriving_blocks, full_blocks
from mtrain.decoding.translator import Translation
from mtrain.text.lines import open_bytes, read_lines, write_whole


def translate(
    run_dir: Path,
    input_path: Path | None,
    output_path: Path | None,
    overrides: tuple[str, ...],
    checkpoint_name: str | None,
) -> None:
    """Translate a file, or stdin, into a file that appears when it is complete, or stdout.

    With n_best over 1 each hypothesis is a line `line number ||| text ||| score`.
    """
    run = RunFolder.open(run_dir)
    config = run.config(overrides)
    is_file = input_path is not None and input_path.is_file()  # no pipe, which is read only once
    num_lines = sum(1 for _ in read_lines(input_path)) if input_path and is_file else None
    translator = load_translator(run, config, checkpoint_name)
    tally = LineTally()
    with (
        _open_input(input_path) as source,
        write_whole(output_path) if output_path else nullcontext(sys.stdout.buffer) as sink,
        progress("translating", num_lines, "lines") as shown,
    ):
        blocks = full_blocks if is_file else arriving_blocks
        for block in blocks(source, config.decoding.buffer_lines):
            for translation in translator.translate(block, shown.advance):
                tally.note(translation)
                sink.write(_format(translation, tally.lines, config.decoding.n_best))
            sink.flush()
    if tally.split:
        warn(f"{tally.split} lines were longer than the model reads at once: split and rejoined")
    say(f"{input_path or 'stdin'}: {tally}")


@contextmanager
def _open_input(path: Path | None) -> Iterator[BinaryIO]:
    if path is None:
        yield sys.stdin.buffer
    else:
        with open_bytes(path) as file:
            yield file


def _format(translation: Translation, line: int, n_best: int) -> bytes:
    if n_best == 1:
        return translation.texts[0].encode() + b"\n"
    scored = zip(translation.texts, translation.scores, strict=True)
    return "".join(f"{line} ||| {text} ||| {score:.6f}\n" for text, score in scored).encode()

"""`mtrain translate`: translate a text line by line, in order."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

from mtrain.console import progress, say, warn
from mtrain.data.folders import OpenedRun
from mtrain.decoding.stream import LineTally, arriving_blocks, full_blocks
from mtrain.decoding.translator import Translation
from mtrain.errors import UserError
from mtrain.evaluation.alignment import format_links
from mtrain.inference.ensemble import load_ensemble
from mtrain.text.lines import (
    STREAM,
    open_bytes,
    refuse_early,
    warn_of_invalid,
)
from mtrain.text.streams import is_stdout, open_output


def translate(
    opened: Sequence[OpenedRun],
    input_path: Path | None,
    output_path: Path | None,
    alignments_path: Path | None,
    checkpoint_name: str | None,
) -> None:
    """Translate a file or stdin to a file, which appears when it is complete, or to stdout.

    Several runs translate together; word alignments and the named checkpoint are the first's. With
    n_best over 1 each hypothesis is a line `line number ||| text ||| score`. Writes the word
    alignment of each line and its best translation to `alignments_path`, if given.
    """
    if alignments_path and _is_same(output_path, alignments_path):
        raise UserError(f"{output_path or '-'}: --output and --alignments name the same file")
    with (
        open_output(output_path) as sink,
        open_output(alignments_path) if alignments_path else nullcontext() as link_sink,
    ):
        _translate(opened, input_path, sink, link_sink, checkpoint_name)


def _is_same(output_path: Path | None, alignments_path: Path) -> bool:
    if output_path is None or is_stdout(output_path):
        return is_stdout(alignments_path)
    return output_path.resolve() == alignments_path.resolve()


def _translate(
    opened: Sequence[OpenedRun],
    input_path: Path | None,
    sink: BinaryIO,
    link_sink: BinaryIO | None,
    checkpoint_name: str | None,
) -> None:
    is_stream = input_path in (None, STREAM) or not input_path.is_file()
    refuse_early(input_path)
    loaded = load_ensemble(opened, checkpoint_name)
    decoding = loaded.config.decoding
    translator = loaded.translator()
    linker = loaded.linker() if link_sink else None
    tally, num_read = LineTally(), 0
    with (
        open_bytes(input_path) as source,
        progress("translating") as shown,
    ):
        blocks = arriving_blocks if is_stream else full_blocks
        for block in blocks(source, decoding.buffer_lines):
            num_read += len(block)
            if share := source.share_read():
                shown.advance(0, total=round(num_read / share))
            translations = translator.translate(block, shown.advance)
            for translation in translations:
                tally.note(translation)
                sink.write(_format(translation, tally.lines, decoding.n_best))
            sink.flush()
            if linker and link_sink:
                links = linker.link_translations(block, translations)
                link_sink.writelines(format_links(line).encode() + b"\n" for line in links)
    if linker:
        linker.report()
    if tally.split:
        warn(f"{tally.split} lines were longer than the model reads at once: split and rejoined")
    warn_of_invalid(input_path or "stdin", tally.invalid)
    say(f"{input_path or 'stdin'}: {tally}")


def _format(translation: Translation, line: int, n_best: int) -> bytes:
    if n_best == 1:
        return translation.texts[0].encode() + b"\n"
    scored = zip(translation.texts, translation.scores, strict=True)
    return "".join(f"{line} ||| {text} ||| {score:.6f}\n" for text, score in scored).encode()

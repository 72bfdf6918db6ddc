"""`mtrain translate`: lines in, as many lines out, in the same order."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

from mtrain.console import progress, say, warn
from mtrain.data.folders import OpenedRun
from mtrain.decoding.stream import LineTally, arriving_blocks, full_blocks
from mtrain.decoding.translator import Translation
from mtrain.errors import UserError
from mtrain.evaluation.alignment import format_links
from mtrain.inference.linking import Linker
from mtrain.inference.load import load_run
from mtrain.text.lines import (
    clean_bytes,
    open_bytes,
    open_stdin,
    read_lines,
)
from mtrain.text.streams import is_stdout, open_output


def translate(
    opened: OpenedRun,
    input_path: Path | None,
    output_path: Path | None,
    alignments_path: Path | None,
    checkpoint_name: str | None,
) -> None:
    """Translate a file, or stdin, into a file that appears when it is complete, or stdout.

    With n_best over 1 each hypothesis is a line `line number ||| text ||| score`. With
    `alignments_path` the links between the words of each line and its best translation go there.
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
    opened: OpenedRun,
    input_path: Path | None,
    sink: BinaryIO,
    link_sink: BinaryIO | None,
    checkpoint_name: str | None,
) -> None:
    is_file = input_path is not None and input_path.is_file()  # no pipe, which is read only once
    num_lines = sum(1 for _ in read_lines(input_path)) if input_path and is_file else None
    loaded = load_run(*opened, checkpoint_name)
    decoding = loaded.config.decoding
    translator = loaded.translator()
    linker = Linker(loaded) if link_sink else None
    tally = LineTally()
    with (
        _open_input(input_path) as source,
        progress("translating", num_lines, "lines") as shown,
    ):
        blocks = full_blocks if is_file else arriving_blocks
        for block in blocks(source, decoding.buffer_lines):
            translations = translator.translate(block, shown.advance)
            for translation in translations:
                tally.note(translation)
                sink.write(_format(translation, tally.lines, decoding.n_best))
            sink.flush()
            if linker and link_sink:
                link_sink.writelines(_links(linker, block, translations))
    if linker:
        linker.report()
    if tally.split:
        warn(f"{tally.split} lines were longer than the model reads at once: split and rejoined")
    say(f"{input_path or 'stdin'}: {tally}")


@contextmanager
def _open_input(path: Path | None) -> Iterator[BinaryIO]:
    if path is None:
        yield open_stdin()
    else:
        with open_bytes(path) as file:
            yield file


def _links(linker: Linker, lines: list[bytes], translations: list[Translation]) -> Iterator[bytes]:
    texts = [(clean_bytes(line), translation.texts[0])
             for line, translation in zip(lines, translations, strict=True)]  # fmt: skip
    # an output of no words at all has nothing to link
    said = [translation.segments if translation.texts[0] else () for translation in translations]
    for links in linker.link(said, texts):
        yield format_links(links).encode() + b"\n"


def _format(translation: Translation, line: int, n_best: int) -> bytes:
    if n_best == 1:
        return translation.texts[0].encode() + b"\n"
    scored = zip(translation.texts, translation.scores, strict=True)
    return "".join(f"{line} ||| {text} ||| {score:.6f}\n" for text, score in scored).encode()

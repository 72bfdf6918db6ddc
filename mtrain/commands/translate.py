"""`mtrain translate`: lines in, as many lines out, in the same order."""

from contextlib import nullcontext
from pathlib import Path

from mtrain.console import progress, say, warn
from mtrain.data.folders import OpenedRun
from mtrain.decoding.stream import LineTally, arriving_blocks, full_blocks
from mtrain.decoding.translator import Translation
from mtrain.errors import UserError
from mtrain.evaluation.alignment import format_links
from mtrain.inference.load import load_run
from mtrain.text.lines import (
    open_bytes,
    open_stdout,
    refuse_early,
    warn_of_invalid,
    write_whole,
)


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
    if output_path and alignments_path and output_path.resolve() == alignments_path.resolve():
        raise UserError(f"{output_path}: --output and --alignments name the same file")
    is_file = input_path is not None and input_path.is_file()  # no pipe, which is read only once
    refuse_early(input_path)
    loaded = load_run(*opened, checkpoint_name)
    decoding = loaded.config.decoding
    translator = loaded.translator()
    linker = loaded.linker() if alignments_path else None
    tally, num_read = LineTally(), 0
    with (
        open_bytes(input_path) as source,
        write_whole(output_path) if output_path else nullcontext(open_stdout()) as sink,
        write_whole(alignments_path) if alignments_path else nullcontext() as link_sink,
        progress("translating") as shown,
    ):
        blocks = full_blocks if is_file else arriving_blocks
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

"""`mtrain translate`: translate a text line by line, in order."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from mtrain.config import Config
from mtrain.config.purpose import require_context
from mtrain.console import Progress, progress, say, warn
from mtrain.data.folders import OpenedRun
from mtrain.decoding.document_stream import (
    numbered_by_empty_lines,
    numbered_by_ids,
    whole_documents,
)
from mtrain.decoding.documents import DocumentTranslator
from mtrain.decoding.stream import LineTally, arriving_blocks, full_blocks
from mtrain.decoding.translator import Translation, Translator
from mtrain.errors import UserError
from mtrain.evaluation.alignment import format_links
from mtrain.inference.ensemble import load_ensemble
from mtrain.text.encoding import Text
from mtrain.text.lines import (
    STREAM,
    open_bytes,
    refuse_early,
    warn_of_invalid,
)
from mtrain.text.streams import is_stdout, open_output, read_stdin_once

Blocks = Iterator[list[bytes]]
OnProgress = Callable[[int], None]
Translated = Iterator[tuple[list[bytes], list[Translation]]]  # lines and their translations


@dataclass(frozen=True)
class Documents:
    """The text consists of documents, which end at empty lines, or by the ids in a file."""

    ids_path: Path | None = None


def translate(
    opened: Sequence[OpenedRun],
    input_path: Path | None,
    output_path: Path | None,
    alignments_path: Path | None,
    checkpoint_name: str | None,
    documents: Documents | None = None,
) -> None:
    """Translate a file or stdin to a file, which appears when it is complete, or to stdout.

    Several runs translate together; word alignments and the named checkpoint are the first's. With
    n_best over 1 each hypothesis is a line `line number ||| text ||| score`. Writes the word
    alignment of each line and its best translation to `alignments_path`, if given. Lines of
    `documents` are translated with their context.
    """
    if alignments_path and _is_same(output_path, alignments_path):
        raise UserError(f"{output_path or '-'}: --output and --alignments name the same file")
    if documents:
        _check_documents(opened[0][1], input_path, alignments_path, documents)
    with (
        open_output(output_path) as sink,
        open_output(alignments_path) if alignments_path else nullcontext() as link_sink,
    ):
        _translate(opened, input_path, sink, link_sink, checkpoint_name, documents)


def _check_documents(
    config: Config, input_path: Path | None, alignments_path: Path | None, documents: Documents
) -> None:
    """Raise UserError for what documents cannot be combined with."""
    require_context(config)
    if alignments_path:
        raise UserError(
            "--alignments are of lines that are translated alone",
            "leave out --documents, or link the lines afterwards: mtrain align",
        )
    if config.decoding.n_best > 1:
        raise UserError(
            "--n-best: of a document there is one translation a line",
            "leave out --documents or --n-best",
        )
    if documents.ids_path is not None:
        read_stdin_once(input_path or STREAM, documents.ids_path)
        refuse_early(input_path, documents.ids_path)
        if input_path is not None and input_path.is_file() and documents.ids_path.is_file():
            with open_bytes(input_path) as text:
                blocks = full_blocks(text, config.decoding.buffer_lines)
                for _ in numbered_by_ids(blocks, documents.ids_path, input_path):
                    pass  # say now what does not fit


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
    documents: Documents | None,
) -> None:
    is_stream = input_path in (None, STREAM) or not input_path.is_file()
    refuse_early(input_path)
    loaded = load_ensemble(opened, checkpoint_name)
    decoding = loaded.config.decoding
    where = input_path or "stdin"
    if documents is None:
        translated = partial(_by_line, loaded.translator())
    else:
        of_documents = loaded.document_translator()
        translated = partial(_by_document, of_documents, documents, where, decoding.buffer_lines)
    linker = loaded.linker() if link_sink else None
    tally = LineTally(mismatched=None if documents is None else 0,
                      lost=0 if loaded.config.data.protect else None)  # fmt: skip
    with (
        open_bytes(input_path) as source,
        progress("translating") as shown,
    ):
        blocks = arriving_blocks if is_stream else full_blocks
        read = _told(blocks(source, decoding.buffer_lines), source, shown)
        for block, translations in translated(read, shown.advance):
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
    warn_of_invalid(where, tally.invalid)
    say(f"{where}: {tally}")


def _told(blocks: Blocks, source: Text, shown: Progress) -> Blocks:
    """Yield the blocks of a text, and tell how many lines it may have."""
    num_read = 0
    for block in blocks:
        num_read += len(block)
        if share := source.share_read():
            shown.advance(0, total=round(num_read / share))
        yield block


def _by_line(translator: Translator, blocks: Blocks, on_progress: OnProgress) -> Translated:
    for block in blocks:
        yield block, translator.translate(block, on_progress)


def _by_document(
    translator: DocumentTranslator,
    documents: Documents,
    where: object,
    max_lines: int,
    blocks: Blocks,
    on_progress: OnProgress,
) -> Translated:
    if documents.ids_path is None:
        numbered = numbered_by_empty_lines(blocks)
    else:
        numbered = numbered_by_ids(blocks, documents.ids_path, where)
    for lines, numbers in whole_documents(numbered, max_lines):
        yield lines, translator.translate(lines, numbers, on_progress)


def _format(translation: Translation, line: int, n_best: int) -> bytes:
    if n_best == 1:
        return translation.texts[0].encode() + b"\n"
    scored = zip(translation.texts, translation.scores, strict=True)
    return "".join(f"{line} ||| {text} ||| {score:.6f}\n" for text, score in scored).encode()

"""`mtrain translate`: translate a text line by line, in order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from os.path import relpath
from pathlib import Path
from typing import Any

from mtrain.commands.translate_writers import (
    Block,
    HealthWriter,
    LinkWriter,
    TextWriter,
    Writer,
)
from mtrain.config import Config
from mtrain.config.purpose import require_context
from mtrain.console import Progress, progress, say, warn
from mtrain.data.folders import OpenedRun
from mtrain.decoding.document_stream import (
    numbered_by_empty_lines,
    numbered_by_ids,
    whole_documents,
)
from mtrain.decoding.journal import Journal
from mtrain.decoding.lines_done import LinesDone, Unit
from mtrain.decoding.outputs import Outputs, open_streams
from mtrain.decoding.stream import LineTally, arriving_blocks, full_blocks
from mtrain.decoding.translator import Translation
from mtrain.errors import UserError
from mtrain.evaluation.limits import Limit, parse_limits
from mtrain.inference.ensemble import load_ensemble
from mtrain.inference.journalled import begin_or_refuse, refusal, resumed_tally, run_identity
from mtrain.inference.load import LoadedRun
from mtrain.remote import outgoing
from mtrain.text.encoding import Text
from mtrain.text.lines import (
    STREAM,
    can_be_replaced,
    open_bytes,
    refuse_early,
    warn_of_invalid,
)
from mtrain.text.streams import is_stdout, read_stdin_once

Blocks = Iterator[list[bytes]]
Files = Mapping[str, Path | None]  # the output files by what they hold


@dataclass(frozen=True)
class Documents:
    """The text consists of documents, which end at empty lines, or by the ids in a file."""

    ids_path: Path | None = None


# lines, the numbers of their documents, what is told of progress, and places
Translate = Callable[
    [list[bytes], list[int] | None, Callable[[int], None], range], list[Translation]
]


def translate(
    opened: Sequence[OpenedRun],
    input_path: Path | None,
    output_path: Path | None,
    alignments_path: Path | None,
    checkpoint_name: str | None,
    documents: Documents | None = None,
    report_path: Path | None = None,
    fail_on: Sequence[str] = (),
) -> None:
    """Translate a file or stdin to a file, which appears when it is complete, or to stdout.

    If every output is a file, the same command resumes after a kill. Several runs translate
    together; word alignments and the named checkpoint are the first's. With n_best over 1 each
    hypothesis is a line `line number ||| text ||| score`. Writes the word alignment of each line
    and its best translation to `alignments_path`, and its health to `report_path`, if given. Lines
    of `documents` are translated with their context. Raises UserError in the end if more lines have
    a problem than `fail_on` allows.
    """
    limits = parse_limits(fail_on)
    beside = {"alignments": alignments_path, "report": report_path}
    files = {"output": output_path} | {name: path for name, path in beside.items() if path}
    _refuse_same(files)
    if documents:
        _check_documents(opened[0][1], input_path, alignments_path, documents)
    with _open_outputs(list(files.values())) as outputs:
        writers = _translate(opened, input_path, files, outputs, checkpoint_name, documents, limits)
    for writer in writers:
        writer.finish(input_path or "stdin")


def _open_outputs(paths: Sequence[Path | None]) -> AbstractContextManager[Outputs]:
    """Return files with a journal; streams if one is a stream, which keeps nothing to resume."""
    files = [path for path in paths
             if path is not None and not is_stdout(path) and can_be_replaced(path)]  # fmt: skip
    return Journal(*files) if len(files) == len(paths) else open_streams(paths)


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


def _refuse_same(files: Files) -> None:
    """Raise UserError if two outputs are one file."""
    named: dict[Path | None, str] = {}
    for name, path in files.items():
        place = None if path is None or is_stdout(path) else outgoing(path)
        if place in named:
            raise UserError(f"{path or '-'}: --{named[place]} and --{name} name the same file")
        named[place] = name


def _translate(
    opened: Sequence[OpenedRun],
    input_path: Path | None,
    files: Files,
    outputs: Outputs,
    checkpoint_name: str | None,
    documents: Documents | None,
    limits: Sequence[Limit],
) -> list[Writer]:
    """Translate block by block; return the writers, whose counts are complete."""
    refuse_early(input_path)
    loaded = load_ensemble(opened, checkpoint_name)
    writers = _writers(loaded, files, limits)
    if isinstance(outputs, Journal):
        begin_or_refuse(outputs, _identity(loaded, files, writers, documents))
    where = input_path or "stdin"
    translated = _translator(loaded, documents)
    fresh = LineTally(mismatched=None if documents is None else 0,
                      lost=0 if loaded.config.data.protect else None)  # fmt: skip
    tally = resumed_tally(outputs, files["output"], fresh)
    for name, writer in writers.items():
        if outputs.notes:
            writer.resume(outputs.notes[name])
    done = LinesDone()
    with (
        open_bytes(input_path) as source,
        progress("translating", initial=outputs.num_lines) as shown,
    ):
        read = _told(_blocks(loaded.config, input_path, source, outputs), source, shown)
        units = _units(read, documents, where, loaded.config.decoding.buffer_lines)
        for lines, numbers in _not_done(units, done, outputs, where):
            places = range(done.num_lines, done.num_lines + len(lines))
            block = Block(places, lines, translated(lines, numbers, shown.advance, places))
            for translation in block.translations:
                tally.note(translation)
            contents = {name: writer.write(block) for name, writer in writers.items()}
            done.add(lines, numbers)
            notes: dict[str, Any] = {name: writer.notes() for name, writer in writers.items()}
            notes |= {"tally": asdict(tally), "input": done.digest}
            outputs.append([contents[name] for name in files], len(lines), notes)
    outputs.finish()
    if tally.split:
        warn(f"{tally.split} lines were longer than the model reads at once: split and rejoined")
    warn_of_invalid(where, tally.invalid)
    say(f"{where}: {tally}")
    return list(writers.values())


def _identity(
    loaded: LoadedRun,
    files: Files,
    writers: Mapping[str, Writer],
    documents: Documents | None,
) -> dict[str, Any]:
    """Return, as JSON values, what the outputs depend on besides the text."""
    config, precision = loaded.config, loaded.precision
    output = files["output"]
    assert output is not None
    identity = run_identity(loaded, config.languages)
    identity["decoding"].pop("precision", None)  # what it came to follows
    identity |= {
        "prefixes": [list(each) for each in config.tokenizer.prefixes(config.languages)],
        "decoding.buffer_lines": config.decoding.buffer_lines,
        "device": precision.device.type,
        "precision": precision.name,
        "--report or --fail-on": "given" if "report" in writers else "not given",
    }
    for name, path in files.items():
        if path is not None and name != "output":
            identity[f"--{name}"] = relpath(outgoing(path), outgoing(output).parent)
    if documents:
        identity["--documents"] = "by empty lines" if documents.ids_path is None else "by ids"
        identity["data.context.tokens"] = require_context(config).tokens
    return identity


def _translator(loaded: LoadedRun, documents: Documents | None) -> Translate:
    """Return what translates lines, given the numbers of their documents if they have some."""
    if documents:
        of_documents = loaded.document_translator()
        return lambda lines, numbers, *rest: of_documents.translate(lines, numbers or (), *rest)
    translator = loaded.translator()
    return lambda lines, _, *rest: translator.translate(lines, *rest)


def _writers(loaded: LoadedRun, files: Files, limits: Sequence[Limit]) -> dict[str, Writer]:
    """Return what is written of each block, or only counted, by name."""
    writers: dict[str, Writer] = {"output": TextWriter(loaded.config.decoding.n_best)}
    if "alignments" in files:
        writers["alignments"] = LinkWriter(loaded.linker())
    if "report" in files or limits:
        writers["report"] = HealthWriter(loaded.config.languages, limits)
    return writers


def _blocks(config: Config, input_path: Path | None, source: Text, outputs: Outputs) -> Blocks:
    """Yield lines as they arrive, or in full blocks, which are the same after a kill."""
    is_stream = input_path in (None, STREAM) or not input_path.is_file()
    is_answered = is_stream and not isinstance(outputs, Journal)
    return (arriving_blocks if is_answered else full_blocks)(source, config.decoding.buffer_lines)


def _told(blocks: Blocks, source: Text, shown: Progress) -> Blocks:
    """Yield the blocks of a text, and tell how many lines it may have."""
    num_read = 0
    for block in blocks:
        num_read += len(block)
        if share := source.share_read():
            shown.advance(0, total=round(num_read / share))
        yield block


def _units(
    blocks: Blocks, documents: Documents | None, where: object, max_lines: int
) -> Iterator[Unit]:
    """Yield the lines that are translated together: a block, or whole documents."""
    if documents is None:
        yield from ((block, None) for block in blocks)
    elif documents.ids_path is None:
        yield from whole_documents(numbered_by_empty_lines(blocks), max_lines)
    else:
        yield from whole_documents(numbered_by_ids(blocks, documents.ids_path, where), max_lines)


def _not_done(
    units: Iterator[Unit], done: LinesDone, outputs: Outputs, where: object
) -> Iterator[Unit]:
    """Yield what an earlier attempt has not translated. Raises UserError for another text."""
    if not isinstance(outputs, Journal):
        return units
    return done.pass_over(
        units,
        outputs.num_lines,
        outputs.notes.get("input", ""),
        lambda told: refusal(outputs, f"{where} is another text: {told}"),
    )

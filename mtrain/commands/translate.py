"""`mtrain translate`: translate a text line by line, in order."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from os.path import relpath
from pathlib import Path
from typing import Any

from mtrain.commands.translate_shard import ShardJob, shard_paths
from mtrain.commands.translate_units import Documents, UnitsOf, check_documents
from mtrain.commands.translate_writers import (
    Block,
    HealthWriter,
    LinkWriter,
    TextWriter,
    Writer,
    say_tally,
)
from mtrain.config.purpose import require_context
from mtrain.console import progress, say
from mtrain.data.folders import OpenedRun
from mtrain.decoding.journal import Journal
from mtrain.decoding.lines_done import LinesDone
from mtrain.decoding.outputs import Outputs, open_streams
from mtrain.decoding.stream import LineTally
from mtrain.decoding.translator import Translation
from mtrain.distributed.shards import Shard
from mtrain.errors import UserError
from mtrain.evaluation.limits import parse_limits
from mtrain.inference.ensemble import load_ensemble
from mtrain.inference.journalled import begin_or_refuse, resumed_tally, run_identity
from mtrain.inference.load import LoadedRun
from mtrain.remote import outgoing
from mtrain.text.lines import can_be_replaced, open_bytes, refuse_early
from mtrain.text.streams import is_stdout

Files = Mapping[str, Path | None]  # the output files by what they hold

# lines, the numbers of their documents, what is told of progress, and places
Translate = Callable[
    [list[bytes], list[int] | None, Callable[[int], None], range], list[Translation]
]


@dataclass(frozen=True)
class Request:
    """A translation: of what, by which runs, into which files. Relative paths begin here.

    If every output is a file, the same request resumes after a kill. Several runs translate
    together; word alignments and the named checkpoint are the first's. With n_best over 1 each
    hypothesis is a line `line number ||| text ||| score`. The word alignment of each line and its
    best translation goes to `alignments_path`, and its health to `report_path`, if given. Lines of
    `documents` are translated with their context.
    """

    opened: Sequence[OpenedRun]
    input_path: Path | None = None  # None is stdin
    output_path: Path | None = None  # None is stdout
    alignments_path: Path | None = None
    report_path: Path | None = None
    fail_on: Sequence[str] = ()  # limits of lines with a problem
    documents: Documents | None = None
    checkpoint_name: str | None = None
    shard: Shard | None = None  # the share of the text; its outputs lie beside those of the whole

    @property
    def files(self) -> Files:
        """The outputs of the whole, not of a shard."""
        beside = {"alignments": self.alignments_path, "report": self.report_path}
        return {"output": self.output_path} | {name: path for name, path in beside.items() if path}

    def check(self) -> None:
        """Raise UserError for what does not fit together, before a model is loaded."""
        parse_limits(self.fail_on)
        _refuse_same(self.files)
        if self.documents:
            for _, config in self.opened:
                require_context(config)
            config = self.opened[0][1]
            check_documents(config, self.input_path, self.alignments_path, self.documents)

    def paths(self) -> Files:
        """Return where the outputs lie. Raises UserError if the request cannot have shards."""
        if self.shard is None:
            return self.files
        ids = [self.documents.ids_path] if self.documents and self.documents.ids_path else []
        return shard_paths(self.shard, self.files, [self.input_path, *ids])

    @property
    def where(self) -> str:
        """The text, or the share of it, in messages."""
        whole = str(self.input_path or "stdin")
        return f"{whole}, shard {self.shard}" if self.shard else whole

    def load(self) -> LoadedRun:
        """Load the models."""
        refuse_early(self.input_path)
        return load_ensemble(self.opened, self.checkpoint_name)


def translate(request: Request, load: Callable[[], LoadedRun] | None = None) -> None:
    """Translate a text to files, which appear when they are complete, or to stdout.

    `load` returns the models if they are loaded already. Raises UserError in the end if more lines
    have a problem than `fail_on` allows; of shards, merge_translation.py judges that.
    """
    request.check()
    with _open_outputs(list(request.paths().values())) as outputs:
        writers = _translate(load or request.load, request, outputs)
    for writer in writers:
        writer.finish(request.where)


def _open_outputs(paths: Sequence[Path | None]) -> AbstractContextManager[Outputs]:
    """Return files with a journal; streams if one is a stream, which keeps nothing to resume."""
    files = [path for path in paths
             if path is not None and not is_stdout(path) and can_be_replaced(path)]  # fmt: skip
    return Journal(*files) if len(files) == len(paths) else open_streams(paths)


def _refuse_same(files: Files) -> None:
    """Raise UserError if two outputs are one file."""
    named: dict[Path | None, str] = {}
    for name, path in files.items():
        place = None if path is None or is_stdout(path) else outgoing(path)
        if place in named:
            raise UserError(f"{path or '-'}: --{named[place]} and --{name} name the same file")
        named[place] = name


def _translate(load: Callable[[], LoadedRun], request: Request, outputs: Outputs) -> list[Writer]:
    """Translate unit by unit; return the writers, whose counts are complete."""
    loaded = load()
    writers = _writers(loaded, request)
    text = UnitsOf(request.input_path, request.documents, loaded.config.decoding.buffer_lines)
    job: ShardJob | None = None
    if isinstance(outputs, Journal):
        identity = _identity(loaded, request, writers)
        if request.shard:
            job = ShardJob(request.shard, outputs, list(request.files), identity)
            if job.is_complete(text):
                return []
            identity = job.identity
        begin_or_refuse(outputs, identity)
    tally = _begun_tally(loaded, request, outputs)
    for name, writer in writers.items():
        if outputs.notes:
            writer.resume(outputs.notes[name])
    translated, done = _translator(loaded, request.documents), LinesDone()
    sizes = outputs.notes.get("sizes") or {name: [] for name in request.files}
    with (
        open_bytes(request.input_path) as source,
        progress("translating", initial=outputs.num_lines) as shown,
    ):
        for lines, numbers in text.not_done(source, outputs, done, shown):
            places = range(done.num_lines, done.num_lines + len(lines))
            is_ours = request.shard is None or request.shard.owns(done.num_units)
            done.add(lines, numbers)
            if not is_ours:
                shown.advance(len(lines))
                continue
            block = Block(places, lines, translated(lines, numbers, shown.advance, places))
            for translation in block.translations:
                tally.note(translation)
            contents = {name: writer.write(block) for name, writer in writers.items()}
            notes: dict[str, Any] = {name: writer.notes() for name, writer in writers.items()}
            notes |= {"tally": asdict(tally), "input": done.digest}
            if job:
                for name in request.files:
                    sizes[name].append(len(contents[name]))
                notes["sizes"] = sizes
            num_lines = done.num_lines - outputs.num_lines  # those of other shards as well
            outputs.append([contents[name] for name in request.files], num_lines, notes)
    if job:
        counts = {name: writer.notes() for name, writer in writers.items()}
        job.finish(done, sizes, asdict(tally), counts)
    else:
        outputs.finish()
    say_tally(request.where, tally)
    if job:
        say(f"when all shards are complete, join them: mtrain merge {request.files['output']}")
    return list(writers.values())


def _begun_tally(loaded: LoadedRun, request: Request, outputs: Outputs) -> LineTally:
    """Return the counts of the lines that are done."""
    fresh = LineTally(mismatched=None if request.documents is None else 0,
                      lost=0 if loaded.config.data.protect else None)  # fmt: skip
    output = request.files["output"]
    if request.shard and output:
        output = request.shard.path_of(output)
    return resumed_tally(outputs, output, fresh)


def _identity(loaded: LoadedRun, request: Request, writers: Mapping[str, Writer]) -> dict[str, Any]:
    """Return, as JSON values, what the outputs depend on besides the text."""
    config, precision = loaded.config, loaded.precision
    output = request.files["output"]
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
    for name, path in request.files.items():
        if path is not None and name != "output":
            identity[f"--{name}"] = relpath(outgoing(path), outgoing(output).parent)
    if documents := request.documents:
        identity["--documents"] = "by empty lines" if documents.ids_path is None else "by ids"
        identity["data.context.tokens"] = require_context(config).tokens
    if request.shard:
        identity["--fail-on"] = list(request.fail_on)  # merge judges
    return identity


def _translator(loaded: LoadedRun, documents: Documents | None) -> Translate:
    """Return what translates lines, given the numbers of their documents if they have some."""
    if documents:
        of_documents = loaded.document_translator()
        return lambda lines, numbers, *rest: of_documents.translate(lines, numbers or (), *rest)
    translator = loaded.translator()
    return lambda lines, _, *rest: translator.translate(lines, *rest)


def _writers(loaded: LoadedRun, request: Request) -> dict[str, Writer]:
    """Return what is written of each block, or only counted, by name."""
    writers: dict[str, Writer] = {"output": TextWriter(loaded.config.decoding.n_best)}
    if "alignments" in request.files:
        writers["alignments"] = LinkWriter(loaded.linker())
    if "report" in request.files or request.fail_on:
        limits = parse_limits(request.fail_on if request.shard is None else ())
        writers["report"] = HealthWriter(loaded.config.languages, limits)
    return writers

"""Readers: from a corpus in the configuration to pairs of raw lines.

The only file that imports `datasets`. Knows nothing of filters or tokens. A pair is two byte
strings; nothing is dropped, cleaned or reordered here.
"""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mtrain.config.data import AlignedPairFiles, Corpus, HubDataset, PairFiles, TableFile
from mtrain.errors import UserError
from mtrain.text.lines import clean_bytes, file_digest, read_lines
from mtrain.text.links import Link, parse_links

RawPair = tuple[bytes, bytes]
LINES_AT_ONCE = 1000  # of files that are read in step
COMPRESSED = (".gz", ".xz", ".zst")


def corpus_name(corpus: Corpus) -> str:
    """Return what reports call a corpus."""
    if corpus.name:
        return corpus.name
    if isinstance(corpus, PairFiles):
        return f"{corpus.source} + {corpus.target}"
    if isinstance(corpus, TableFile):
        return str(corpus.path)
    return ":".join(filter(None, (corpus.hub, corpus.config, corpus.split)))


def read_pairs(corpus: Corpus, languages: tuple[str, str]) -> Iterator[RawPair]:
    """Yield every pair of a corpus in order, as bytes without line ends.

    Raises `UserError` naming file and line: missing, unreadable, of unequal length, no such field.
    """
    if isinstance(corpus, PairFiles):
        files = _read_in_step(corpus.source, corpus.target)
        return ((source, target) for source, target in files)
    if isinstance(corpus, HubDataset):
        return _read_hub(corpus, languages)
    suffix = _table_suffix(corpus.path)
    if suffix == ".tsv":
        return _read_tsv(corpus)
    if suffix == ".jsonl":
        return _read_jsonl(corpus, languages)
    if suffix == ".parquet":
        return _read_parquet(corpus, languages)
    raise UserError(
        f"{corpus.path}: its kind cannot be told from its name",
        "name it .tsv, .jsonl or .parquet (.gz, .xz and .zst may follow), "
        "or give two files as `source` and `target`",
    )


def read_linked_pairs(
    corpus: Corpus, languages: tuple[str, str]
) -> Iterator[tuple[RawPair, list[Link] | None]]:
    """Yield every pair of a corpus in order, with the links between its words, if it has any.

    They are None where a side has other words once it is cleaned, as with a no-break space: the
    links may count either. Raises `UserError` as `read_pairs` does, and for what is no link within
    its pair.
    """
    if not isinstance(corpus, AlignedPairFiles) or corpus.alignments is None:
        yield from ((pair, []) for pair in read_pairs(corpus, languages))
        return
    lines = _read_in_step(corpus.source, corpus.target, corpus.alignments)
    for number, (source, target, links) in enumerate(lines, start=1):
        plain = len(source.split()), len(target.split())
        cleaned = len(clean_bytes(source).split()), len(clean_bytes(target).split())
        most = max(plain[0], cleaned[0]), max(plain[1], cleaned[1])
        parsed = parse_links(links, most, f"{corpus.alignments}:{number}")
        yield (source, target), parsed if plain == cleaned else None


def input_digests(corpus: Corpus) -> list[dict[str, Any]]:
    """Return what identifies a corpus's present content: path, bytes and SHA-256 of each file."""
    if not isinstance(corpus, HubDataset):
        paths = _files(corpus)
    elif _is_local(corpus):
        paths = sorted(path for path in Path(corpus.hub).rglob("*") if path.is_file())
    else:
        with _load_hub(corpus) as data_set:
            return [{"hub": corpus_name(corpus), "fingerprint": data_set._fingerprint}]
    return [
        {"path": str(path), "bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in paths
    ]


def check_readable(corpus: Corpus) -> list[str]:
    """Return one message for each file of the corpus that is not there, or none."""
    if isinstance(corpus, HubDataset):
        return []
    return [f"{path}: {_complaint(path)}" for path in _files(corpus) if not path.is_file()]


def _complaint(path: Path) -> str:
    if not path.exists():
        return f"there is no such file (looked in {Path.cwd()})"
    if path.is_dir():
        return "this is a folder, a file was expected"
    return "a pipe can be read only once, a corpus is read three times: write it to a file first"


def _files(corpus: PairFiles | TableFile) -> list[Path]:
    if isinstance(corpus, TableFile):
        return [corpus.path]
    paths = [corpus.source, corpus.target]
    if isinstance(corpus, AlignedPairFiles) and corpus.alignments is not None:
        paths.append(corpus.alignments)
    return paths


def _table_suffix(path: Path) -> str:
    return (path.with_suffix("") if path.suffix in COMPRESSED else path).suffix


def _read_in_step(*paths: Path) -> Iterator[tuple[bytes, ...]]:
    """Yield the lines n of all files together; refuse files of unequal length."""
    files = [read_lines(path) for path in paths]
    count = 0
    while True:
        columns = [list(itertools.islice(file, LINES_AT_ONCE)) for file in files]
        yield from zip(*columns, strict=False)
        sizes = list(map(len, columns))
        if len(set(sizes)) > 1:  # count all to the end, to say by how much they differ
            first, *others = (
                (path, count + size + sum(1 for _ in file))
                for path, size, file in zip(paths, sizes, files, strict=True)
            )
            raise UserError(
                f"{first[0]} has {first[1]} lines but "
                + " and ".join(f"{path} has {count}" for path, count in others),
                "line n of one must be the translation of line n of the other"
                + (", line n of the third its links" if len(files) > 2 else ""),
            )
        if not sizes[0]:
            return
        count += sizes[0]


def _read_tsv(corpus: TableFile) -> Iterator[RawPair]:
    columns = corpus.fields or (0, 1)
    if not all(isinstance(column, int) and column >= 0 for column in columns):
        raise UserError(f"{corpus.path}: a TSV's fields are column numbers from 0, not {columns}")
    first, second = int(columns[0]), int(columns[1])
    for number, line in enumerate(read_lines(corpus.path), start=1):
        cells = line.split(b"\t")
        if len(cells) <= max(first, second):
            raise UserError(
                f"{corpus.path}:{number}: {len(cells)} columns, column {max(first, second)} "
                "(counted from 0) was asked for"
            )
        yield cells[first], cells[second]


def _read_jsonl(corpus: TableFile, languages: tuple[str, str]) -> Iterator[RawPair]:
    for number, line in enumerate(read_lines(corpus.path), start=1):
        where = f"{corpus.path}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{where}: not JSON ({error})") from None
        yield _pair_of_record(record, corpus.fields, languages, where)


def _read_parquet(corpus: TableFile, languages: tuple[str, str]) -> Iterator[RawPair]:
    import pyarrow
    from pyarrow import parquet

    if not corpus.path.is_file():
        raise UserError(f"{corpus.path}: there is no such file (looked in {Path.cwd()})")
    try:
        with parquet.ParquetFile(corpus.path) as file:
            number = 0
            for batch in file.iter_batches(batch_size=10_000):
                for record in batch.to_pylist():
                    number += 1
                    where = f"{corpus.path}, row {number}"
                    yield _pair_of_record(record, corpus.fields, languages, where)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        if getattr(error, "errno", None) is not None:  # the system's, not the file's
            raise
        raise UserError(f"{corpus.path}: not a readable Parquet file ({error})") from None


def _read_hub(corpus: HubDataset, languages: tuple[str, str]) -> Iterator[RawPair]:
    with _load_hub(corpus) as data_set:
        for number, record in enumerate(data_set, start=1):
            yield _pair_of_record(record, None, languages, f"{corpus_name(corpus)}, row {number}")


def _is_local(corpus: HubDataset) -> bool:
    return Path(corpus.hub).is_dir()


@contextmanager
def _load_hub(corpus: HubDataset) -> Iterator[Any]:
    """Load a data set; what goes wrong in loading or reading it is a `UserError`.

    A local folder is read without the cache of `datasets`, which takes two folders of one name
    for the same, and misses changes.
    """
    import datasets

    datasets.disable_progress_bars()
    try:
        yield datasets.load_dataset(
            corpus.hub, corpus.config, split=corpus.split, streaming=_is_local(corpus)
        )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"data set {corpus_name(corpus)}: cannot be loaded ({first_line})",
            "check hub, config and split; without a network, give a local folder as `hub`",
        ) from None


def _pair_of_record(
    record: Any, fields: tuple[str | int, str | int] | None, languages: tuple[str, str], where: str
) -> RawPair:
    if fields is None:
        holder = record.get("translation", record) if isinstance(record, dict) else record
        return _text(holder, languages[0], where), _text(holder, languages[1], where)
    return _text(record, str(fields[0]), where), _text(record, str(fields[1]), where)


def _text(record: Any, field: str, where: str) -> bytes:
    """Return the text at `field`, where a.b is the field b of the record a."""
    value: Any = record
    for key in [field] if isinstance(record, dict) and field in record else field.split("."):
        if not isinstance(value, dict) or key not in value:
            known = ", ".join(map(str, value)) if isinstance(value, dict) else type(value).__name__
            raise UserError(
                f"{where}: there is no field {field} (here: {known})",
                "name the two columns with `fields: [SOURCE, TARGET]`",
            )
        value = value[key]
    if not isinstance(value, str):
        raise UserError(f"{where}: field {field} is not text but {value!r:.60}")
    return value.encode("utf-8", errors="surrogatepass")

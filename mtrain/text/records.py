"""Tables: from TSV, JSONL, Parquet and Arrow to pairs of raw texts.

Finds the two texts in a row. A null or missing text is empty, like an empty line of a text file;
a field that no row has is an error. Reads only the requested columns.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mtrain.config.corpora import TableFile
from mtrain.errors import UserError
from mtrain.text.encoding import refuse_pointer
from mtrain.text.lines import read_lines

RawPair = tuple[bytes, bytes]
Fields = tuple[str | int, str | int] | None
COMPRESSED = (".gz", ".xz", ".zst", ".bz2")
ROWS_AT_ONCE = 10_000
TRANSLATION = "translation"  # the record with both languages in the Hub's layout


def table_kind(path: Path) -> str:
    """Return ".tsv", ".jsonl" or ".parquet" from a file's name, or raise UserError."""
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    kind = plain.suffix.lower()
    if kind in (".tsv", ".jsonl", ".parquet"):
        return kind
    raise UserError(
        f"{path}: its kind cannot be told from its name",
        "name it .tsv, .jsonl or .parquet (.gz, .xz, .zst and .bz2 may follow the first two), "
        "or give two files as `source` and `target`",
    )


def read_table(corpus: TableFile, languages: tuple[str, str]) -> Iterator[RawPair]:
    """Yield every pair of a file. Raises UserError with file and line or row."""
    kind = table_kind(corpus.path)
    if kind == ".tsv":
        return _read_tsv(corpus)
    if kind == ".jsonl":
        return _read_jsonl(corpus, languages)
    return _read_parquet(corpus, languages)


def _read_rows(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the numbered lines of a table, without the blank lines at its end."""
    waiting: list[tuple[int, bytes]] = []
    for number, line in enumerate(read_lines(path), start=1):
        waiting.append((number, line))
        if line.strip(b" \r"):
            yield from waiting
            waiting = []


def _read_tsv(corpus: TableFile) -> Iterator[RawPair]:
    columns = corpus.fields or (0, 1)
    if not all(isinstance(column, int) and column >= 0 for column in columns):
        raise UserError(f"{corpus.path}: a TSV's fields are column numbers from 0, not {columns}")
    first, second = int(columns[0]), int(columns[1])
    for number, line in _read_rows(corpus.path):
        cells = line.split(b"\t")
        if len(cells) <= max(first, second):
            raise UserError(
                f"{corpus.path}:{number}: {len(cells)} columns, column {max(first, second)} "
                "(counted from 0) was asked for"
            )
        yield cells[first], cells[second]


def _read_jsonl(corpus: TableFile, languages: tuple[str, str]) -> Iterator[RawPair]:
    names = tuple(map(str, corpus.fields or languages))
    missing: dict[str, UserError] | None = None  # fields absent so far: their first errors
    for number, line in _read_rows(corpus.path):
        where = f"{corpus.path}:{number}"
        record = _parse_json(line, where)
        if corpus.fields is None and isinstance(record, dict):
            holder = record.get(TRANSLATION)
            record = holder if isinstance(holder, dict) else record
        found = {name: _find(record, name, where) for name in names}
        told = {name: why for name, why in found.items() if isinstance(why, UserError)}
        if missing is None:
            missing = told
        missing = {name: why for name, why in missing.items() if name in told}
        source, target = (text if isinstance(text := found[name], bytes) else b"" for name in names)
        yield source, target
    for why in (missing or {}).values():
        raise why


def _parse_json(line: bytes, where: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        hint = "a JSON object a line is expected"
        raise UserError(f"{where}: not JSON ({error})", hint) from None


def table_fields(path: Path) -> list[str]:
    """Return the names of the text fields of a JSONL or Parquet file; a TSV has none.

    Those in `translation`, if there are any. Of a JSONL the first line counts. Raises UserError.
    """
    kind = table_kind(path)
    if kind == ".tsv":
        return []
    if kind == ".parquet":
        import pyarrow
        from pyarrow import parquet

        try:
            return text_fields(parquet.read_schema(path))
        except (pyarrow.ArrowException, OSError) as error:
            raise UserError(f"{path}: not a readable Parquet file ({error})") from None
    number, line = next(_read_rows(path), (1, b"{}"))
    record = _parse_json(line, f"{path}:{number}")
    if not isinstance(record, dict):
        raise UserError(f"{path}:{number}: a JSON object a line is expected")
    holder = record.get(TRANSLATION)
    record = holder if isinstance(holder, dict) else record
    return [name for name, value in record.items() if value is None or isinstance(value, str)]


def text_fields(schema: Any) -> list[str]:
    """Return the names of the text columns of an Arrow schema; those in `translation`, if any."""
    from pyarrow import types

    fields = list(schema)
    if TRANSLATION in schema.names and types.is_struct(schema.field(TRANSLATION).type):
        holder = schema.field(TRANSLATION).type
        fields = [holder.field(place) for place in range(holder.num_fields)]
    is_text = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return [field.name for field in fields if any(is_so(field.type) for is_so in is_text)]


def _find(record: Any, name: str, where: str) -> bytes | UserError:
    """Return the text at `name`, or an error if it is missing; a.b is field b of record a.

    Raises UserError for a value that is neither text nor missing.
    """
    value = record
    for key in [name] if isinstance(record, dict) and name in record else name.split("."):
        if not isinstance(value, dict) or key not in value:
            known = ", ".join(value) if isinstance(value, dict) else type(value).__name__
            complaint = _no_field(where, name, known)
            if isinstance(value, dict) or (value is None and record is not None):
                return complaint
            raise complaint
        value = value[key]
    if value is None:
        return b""
    if not isinstance(value, str):
        raise UserError(f"{where}: field {name} is not text but {value!r:.60}")
    return value.encode("utf-8", errors="surrogatepass")


def _no_field(where: str, name: str, known: str) -> UserError:
    return UserError(
        f"{where}: there is no field {name} (here: {known})",
        "name the two columns with `fields: [SOURCE, TARGET]`",
    )


def _read_parquet(corpus: TableFile, languages: tuple[str, str]) -> Iterator[RawPair]:
    import pyarrow
    from pyarrow import parquet

    if not corpus.path.is_file():
        raise UserError(f"{corpus.path}: there is no such file (looked in {Path.cwd()})")
    refuse_pointer(corpus.path)
    try:
        with parquet.ParquetFile(corpus.path) as file:
            paths = column_paths(file.schema_arrow, corpus.fields, languages, str(corpus.path))
            wanted = list(dict.fromkeys(map(".".join, paths)))
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=wanted):
                yield from pairs_of(batch, corpus.fields, languages, str(corpus.path))
    except (pyarrow.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:  # an error of the system, not of the file
            raise
        raise UserError(f"{corpus.path}: not a readable Parquet file ({error})") from None


def pairs_of(
    table: Any, fields: Fields, languages: tuple[str, str], where: str
) -> Iterator[RawPair]:
    """Yield the pairs of an Arrow table or batch. Raises UserError, naming `where`."""
    import pyarrow
    from pyarrow import compute, types

    columns = []
    for name, (first, *inner) in zip(
        fields or languages, column_paths(table.schema, fields, languages, where), strict=True
    ):
        column = table.column(table.schema.names.index(first))
        column = compute.struct_field(column, inner) if inner else column
        if types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if types.is_null(column.type):
            column = column.cast(pyarrow.binary())
        is_text = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
        if not any(is_so(column.type) for is_so in is_text):
            raise UserError(f"{where}: field {name} is not text but {column.type}")
        # as bytes, because a text may be invalid UTF-8
        columns.append([text or b"" for text in column.cast(pyarrow.large_binary()).to_pylist()])
    yield from zip(*columns, strict=True)


def column_paths(
    schema: Any, fields: Fields, languages: tuple[str, str], where: str
) -> list[Sequence[str]]:
    """Return the path to each text in an Arrow schema: a column, then the fields inside it."""
    from pyarrow import types

    found: list[Sequence[str]] = []
    for name in map(str, fields or languages):
        path = [name] if name in schema.names else name.split(".")
        if fields is None and TRANSLATION in schema.names:
            kind = schema.field(TRANSLATION).type
            path = [TRANSLATION, name] if types.is_struct(kind) else path
        kind = None
        for key in path:
            known = schema.names if kind is None else (
                [kind.field(place).name for place in range(kind.num_fields)]
                if types.is_struct(kind) else [])  # fmt: skip
            if key not in known:
                raise _no_field(where, name, ", ".join(known) or str(kind))
            if known.count(key) > 1:
                raise UserError(f"{where}: several columns are called {key}")
            field = schema.field(key) if kind is None else kind.field(known.index(key))
            kind = field.type
        found.append(path)
    return found

"""Readers: from a corpus in the configuration to pairs of raw lines.

A pair is two byte strings. Readers drop, clean and reorder nothing. Independent of filters and
tokens.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mtrain.config.corpora import (
    EMPTY_LINES,
    AlignedPairFiles,
    Corpus,
    HubDataset,
    PairFiles,
    TableFile,
    is_one_text,
)
from mtrain.errors import UserError
from mtrain.text.documents import DocumentIds, is_boundary
from mtrain.text.hub import hub_files, hub_fingerprint, hub_name, read_hub
from mtrain.text.lines import clean_bytes, file_digest, read_lines
from mtrain.text.links import Link, parse_links
from mtrain.text.records import RawPair, read_table

LINES_AT_ONCE = 1000  # of files that are read in parallel


def corpus_name(corpus: Corpus) -> str:
    """Return the name of a corpus in reports."""
    if corpus.name:
        return corpus.name
    if isinstance(corpus, PairFiles):
        return " + ".join(map(str, dict.fromkeys((corpus.source, corpus.target))))
    if isinstance(corpus, TableFile):
        return str(corpus.path)
    return hub_name(corpus)


def read_pairs(corpus: Corpus, languages: tuple[str, str]) -> Iterator[RawPair]:
    """Yield every pair of a corpus in order, as bytes without line ends.

    Raises `UserError` with file and line: file missing or unreadable, unequal lengths, no field, a
    document id that comes back.
    """
    if isinstance(corpus, PairFiles) and corpus.documents is not None:
        return ((source, target) for _, _, (source, target) in _read_documents(corpus))
    if isinstance(corpus, PairFiles) and is_one_text(corpus):
        return ((line, line) for line in read_lines(corpus.source))
    if isinstance(corpus, PairFiles):
        files = _read_in_step(corpus.source, corpus.target)
        return ((source, target) for source, target in files)
    if isinstance(corpus, HubDataset):
        return read_hub(corpus, languages)
    return read_table(corpus, languages)


TrainingPair = tuple[RawPair, list[Link] | None, int | None]


def read_training_pairs(corpus: Corpus, languages: tuple[str, str]) -> Iterator[TrainingPair]:
    """Yield every pair of a corpus in order, with its word links and its document's number.

    Without alignments links are [], without documents the number is None. Links are None if
    cleaning changes the word count of a side, as it does at a no-break space: the links may count
    words either way. Raises `UserError` as `read_pairs` does, and for a link that is malformed or
    out of range.
    """
    path = corpus.alignments if isinstance(corpus, AlignedPairFiles) else None
    if path is None:
        if isinstance(corpus, PairFiles) and corpus.documents is not None:
            for _, document, (source, target) in _read_documents(corpus):
                yield (source, target), [], document
            return
        yield from ((pair, [], None) for pair in read_pairs(corpus, languages))
        return
    assert isinstance(corpus, AlignedPairFiles)
    for number, document, (source, target, links) in _read_documents(corpus, path):
        plain = len(source.split()), len(target.split())
        cleaned = len(clean_bytes(source).split()), len(clean_bytes(target).split())
        most = max(plain[0], cleaned[0]), max(plain[1], cleaned[1])
        parsed = parse_links(links, most, f"{path}:{number}")
        yield (source, target), parsed if plain == cleaned else None, document


def read_document_numbers(corpus: PairFiles) -> Iterator[int]:
    """Yield the number of each pair's document, in a corpus that has documents."""
    return (document or 0 for _, document, _ in _read_documents(corpus))


def _read_documents(
    corpus: PairFiles, *besides: Path
) -> Iterator[tuple[int, int | None, Sequence[bytes]]]:
    """Yield line number, number of the document if there are any, and line n of all files."""
    paths = corpus.source, corpus.target, *besides
    if isinstance(corpus.documents, Path):
        ids = DocumentIds(corpus.documents)
        lines = _read_in_step(*paths, corpus.documents)
        for number, columns in enumerate(lines, start=1):
            yield number, ids.number_of(columns[-1], number), columns[:-1]
        return
    document = 0 if corpus.documents == EMPTY_LINES else None
    for number, columns in enumerate(_read_in_step(*paths), start=1):
        if document is not None and is_boundary(columns[0]) and is_boundary(columns[1]):
            document += 1
        else:
            yield number, document, columns


def input_digests(corpus: Corpus) -> list[dict[str, Any]]:
    """Return path, bytes and SHA-256 of each file, or a Hub data set's name and fingerprint."""
    paths = hub_files(corpus) if isinstance(corpus, HubDataset) else corpus_files(corpus)
    if isinstance(corpus, HubDataset) and paths is None:
        return [{"hub": corpus_name(corpus), "fingerprint": hub_fingerprint(corpus)}]
    return [
        {"path": str(path), "bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in paths or ()
    ]


def corpus_files(corpus: PairFiles | TableFile) -> list[Path]:
    """Return the files of a corpus that is not a Hugging Face data set."""
    if isinstance(corpus, TableFile):
        return [corpus.path]
    paths = list(dict.fromkeys((corpus.source, corpus.target)))
    if isinstance(corpus, AlignedPairFiles) and corpus.alignments is not None:
        paths.append(corpus.alignments)
    if isinstance(corpus.documents, Path):
        paths.append(corpus.documents)
    return paths


def _read_in_step(*paths: Path) -> Iterator[tuple[bytes, ...]]:
    """Yield line n of all files together; raise UserError if the files differ in length."""
    files = [read_lines(path) for path in paths]
    count = 0
    while True:
        columns = [list(itertools.islice(file, LINES_AT_ONCE)) for file in files]
        yield from zip(*columns, strict=False)
        sizes = list(map(len, columns))
        if len(set(sizes)) > 1:  # read to the end: the error gives the line counts
            first, *others = (
                (path, count + size + sum(1 for _ in file))
                for path, size, file in zip(paths, sizes, files, strict=True)
            )
            besides = ", line n of the third its links or the id of its document"
            raise UserError(
                f"{first[0]} has {first[1]} lines but "
                + " and ".join(f"{path} has {count}" for path, count in others),
                "line n of one must be the translation of line n of the other"
                + (besides if len(files) > 2 else ""),
            )
        if not sizes[0]:
            return
        count += sizes[0]

"""Readers: from a corpus in the configuration to pairs of raw lines.

A pair is two byte strings. Readers drop, clean and reorder nothing. Independent of filters and
tokens.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mtrain.config.corpora import (
    AlignedPairFiles,
    Corpus,
    HubDataset,
    PairFiles,
    TableFile,
    is_one_text,
)
from mtrain.errors import UserError
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

    Raises `UserError` with file and line: file missing or unreadable, unequal lengths, no field.
    """
    if isinstance(corpus, PairFiles) and is_one_text(corpus):
        return ((line, line) for line in read_lines(corpus.source))
    if isinstance(corpus, PairFiles):
        files = _read_in_step(corpus.source, corpus.target)
        return ((source, target) for source, target in files)
    if isinstance(corpus, HubDataset):
        return read_hub(corpus, languages)
    return read_table(corpus, languages)


def read_linked_pairs(
    corpus: Corpus, languages: tuple[str, str]
) -> Iterator[tuple[RawPair, list[Link] | None]]:
    """Yield every pair of a corpus in order, with its word links; [] if the corpus has none.

    Links are None if cleaning changes the word count of a side, as it does at a no-break space:
    the links may count words either way. Raises `UserError` as `read_pairs` does, and for a link
    that is malformed or out of range.
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
            raise UserError(
                f"{first[0]} has {first[1]} lines but "
                + " and ".join(f"{path} has {count}" for path, count in others),
                "line n of one must be the translation of line n of the other"
                + (", line n of the third its links" if len(files) > 2 else ""),
            )
        if not sizes[0]:
            return
        count += sizes[0]

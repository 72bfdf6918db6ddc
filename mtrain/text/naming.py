"""Finds out what the files given to `init` are: the kind of corpus, its fields and its languages.

Goes by names alone: of files, and of the fields in a table. Does not look at the texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mtrain.config.corpora import Corpus, HubDataset, PairFiles, TableFile
from mtrain.errors import UserError
from mtrain.remote import as_path
from mtrain.text.checks import check_readable
from mtrain.text.hub import hub_fields
from mtrain.text.languages import is_language_code
from mtrain.text.records import COMPRESSED, table_fields

Codes = tuple[str | None, str | None]  # of source and target, as far as they are known
# Endings and names of fields that are language codes by chance.
NO_CODES = frozenset(("txt", "src", "tgt", "trg", "raw", "tok", "out", "ref", "hyp", "mt", "bpe",
                      "spm", "tsv", "csv", "log", "new", "old", "all", "sgm", "xml", "tmx", "low",
                      "seg", "doc", "one", "two", "id", "text"))  # fmt: skip
FIELD_PAIRS = (("source", "target"), ("src", "tgt"), ("src", "trg"), ("source_text", "target_text"),
               ("input", "output"), ("text", "translation"))  # fmt: skip
OPTIONS = "--source-lang CODE --target-lang CODE"


@dataclass(frozen=True)
class NamedCorpus:
    """A corpus as the configuration names it."""

    corpus: Corpus
    languages: Codes
    origin: str  # of the languages that are not given
    keys: dict[str, object]  # of the configuration, with plain values


def find_corpus(paths: Sequence[str], given: Codes) -> NamedCorpus:
    """Return the corpus in two text files, one table or one folder of a Hub data set.

    `given` languages override those of names. Raises UserError if a file is missing or no corpus.
    """
    if len(paths) > 2:
        raise UserError(
            f"{len(paths)} files are given: {' '.join(paths)}",
            "give two text files, line n of one the translation of line n of the other, or one "
            ".tsv, .jsonl or .parquet; add further corpora to data.train later",
        )
    if len(paths) == 2:
        return _two_files(as_path(paths[0]), as_path(paths[1]), given)
    path = as_path(paths[0])
    is_folder = path.is_dir()
    corpus: Corpus = (
        HubDataset(hub=str(path)) if is_folder else TableFile.model_construct(path=path)
    )
    _check(corpus)
    keys: dict[str, object] = {"hub": str(path)} if is_folder else {"path": _escaped(path)}
    names = hub_fields(corpus) if isinstance(corpus, HubDataset) else table_fields(path)
    if not names:
        return NamedCorpus(corpus, given, "", keys)
    languages = _languages_of_fields(names, given)
    if languages is not None:
        return NamedCorpus(corpus, languages, "from the name of the field", keys)
    fields = _fields_of(names, path)
    corpus = corpus.model_copy(update={"fields": fields})
    return NamedCorpus(corpus, given, "", keys | {"fields": list(fields)})


def _two_files(source: Path, target: Path, given: Codes) -> NamedCorpus:
    corpus = PairFiles.model_construct(source=source, target=target)
    if source.resolve() == target.resolve():
        raise UserError(f"{source}: this file is given as both sides", "give two files")
    _check(corpus)
    keys: dict[str, object] = {"source": _escaped(source), "target": _escaped(target)}
    named = given[0] or code_of_file(source), given[1] or code_of_file(target)
    return NamedCorpus(corpus, named, "from the name of the file", keys)


def code_of_file(path: Path) -> str | None:
    """Return the language code that a file's name ends in, before that of its compression."""
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSED else path
    code = plain.suffix.removeprefix(".")
    return _known(code)


def _known(code: str) -> str | None:
    code = code.lower() if len(code) <= 3 else code
    is_code = len(code) >= 2 and code.lower() not in NO_CODES and is_language_code(code)
    return code if is_code else None


def _languages_of_fields(names: Sequence[str], given: Codes) -> Codes | None:
    """Return the languages if the fields are called by codes, else None."""
    if given[0] in names and given[1] in names:
        return given
    codes = [name for name in names if _known(name)]
    if len(codes) < 2:
        return None
    if len(codes) == 2 and all(code is None or code in codes for code in given):
        source = given[0] or next(code for code in codes if code != given[1])
        return source, given[1] or next(code for code in codes if code != source)
    if any(given) and len(codes) == 2:
        raise UserError(
            f"the texts are in the fields {' and '.join(codes)}, "
            f"not {' and '.join(filter(None, given))}",
            "give the languages as the fields are called, or leave them out",
        )
    raise UserError(
        f"there are texts in {len(codes)} languages: {', '.join(codes)}",
        f"choose two: {OPTIONS}",
    )


def _fields_of(names: Sequence[str], path: Path) -> tuple[str, str]:
    for pair in FIELD_PAIRS:
        if set(pair) <= set(names):
            return pair
    if len(names) == 2:
        return names[0], names[1]
    raise UserError(
        f"{path}: which of its fields are the two sides cannot be told: {', '.join(names)}",
        "call them source and target, or as the languages' codes, such as en and de",
    )


def _check(corpus: Corpus) -> None:
    if complaints := check_readable(corpus):
        raise UserError("\n".join(complaints))


def _escaped(path: Path) -> str:
    """Return a path as the configuration writes it, where $NAME is a variable."""
    return str(path).replace("$", "$$")

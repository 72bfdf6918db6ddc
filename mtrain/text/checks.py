"""Checks of corpus files, before any corpus is read in full.

Stricter than the reading of text: an HTML page or one huge line is text, but not a corpus.
"""

import re
from pathlib import Path

from mtrain.config.corpora import Corpus, HubDataset, TableFile
from mtrain.errors import UserError
from mtrain.text.corpora import corpus_files
from mtrain.text.encoding import HEAD_BYTES, refuse_pointer
from mtrain.text.lines import clean_line, open_bytes
from mtrain.text.records import table_kind

LONGEST_LINE = 1 << 20  # bytes of a first line
PAGES = (
    (rb"\s*(<!--.*?-->\s*)?<(!doctype\s+html|html[\s>])", "an HTML page, as of a failed download"),
    (rb"\s*<\?xml\s", "an XML file; corpora in TMX or XLIFF have to be converted"),
    (rb".*?\x1b(\$[@B]|\$\)[ACG])", "in an encoding of ISO-2022, as iconv -f ISO-2022-JP reads"),
)
COLUMN_WORDS = """
    source src target tgt trg text sentence segment translation original reference ref hypothesis mt
    human input output prompt completion lang language id
    english german french spanish italian portuguese dutch polish czech russian ukrainian turkish
    chinese japanese korean arabic hebrew hindi persian vietnamese thai swedish danish norwegian
    finnish greek hungarian romanian bulgarian croatian serbian catalan welsh irish
    deutsch français español italiano português nederlands polski čeština русский 中文 日本語
"""


def check_readable(corpus: Corpus) -> list[str]:
    """Return one message for each file of the corpus that is missing or not a corpus."""
    complaints = [_complaint_of_hub(corpus)] if isinstance(corpus, HubDataset) else [
        _complaint(path, corpus) for path in corpus_files(corpus)
    ]  # fmt: skip
    return [complaint for complaint in complaints if complaint]


def looks_like_header(source: str, target: str, languages: tuple[str, str]) -> bool:
    """Return whether a pair looks like column names: en and de, source_text and target_text."""
    known = set(COLUMN_WORDS.split())
    known.update(*(re.split(r"[-_]", code.lower()) for code in languages))
    words = [re.findall(r"[^\W_]+", clean_line(text).casefold()) for text in (source, target)]
    return all(0 < len(side) <= 3 and known.issuperset(side) for side in words)


def _complaint(path: Path, corpus: Corpus) -> str:
    try:
        if not path.exists():
            return f"{path}: there is no such file (looked in {Path.cwd()})"
        if path.is_dir():
            return f"{path}: this is a folder, a file was expected"
        if not path.is_file():
            return (
                f"{path}: a pipe can be read only once, a corpus is read three times: "
                "write it to a file first"
            )
        if isinstance(corpus, TableFile) and table_kind(corpus.path) == ".parquet":
            return _complaint_of_parquet(path)
        with open_bytes(path) as file:
            return _complaint_of_text(path, file.read(LONGEST_LINE))
    except UserError as error:
        return str(error)


def _kind_of_page(start: bytes) -> str | None:
    first, _, rest = start.partition(b"\n")
    if b"</html>" in first.lower() and rest.strip():  # one line of mark-up in a longer text
        return None
    flags = re.DOTALL | re.IGNORECASE
    return next((kind for page, kind in PAGES if re.match(page, start[:HEAD_BYTES], flags)), None)


def _complaint_of_parquet(path: Path) -> str:
    refuse_pointer(path)
    with path.open("rb") as file:
        start = file.read(HEAD_BYTES)
    if start.startswith(b"PAR"):
        return ""
    kind = _kind_of_page(start) or "no Parquet file, or one that was compressed as a whole"
    return f"{path}: this is {kind}; a Parquet file was expected"


def _complaint_of_text(path: Path, start: bytes) -> str:
    if kind := _kind_of_page(start):
        return f"{path}: this is {kind}; text was expected, a sentence a line"
    first, end, _ = start.partition(b"\n")
    if end or (len(start) < LONGEST_LINE and start.count(b"\r") < 2):
        return ""
    if b"\r" in first:
        return (
            f"{path}: its lines end in \\r alone, so that it is one line; one sentence a line is "
            "expected, ended by \\n: tr '\\r' '\\n' < OLD > NEW"
        )
    return (
        f"{path}: its first line is longer than {LONGEST_LINE:,} bytes; one sentence a line is "
        "expected"
    )


def _complaint_of_hub(corpus: HubDataset) -> str:
    path = Path(corpus.hub)
    if path.is_file():
        return f"{path}: this is a file; `hub` takes a folder or a name, a file is given as `path`"
    is_path = corpus.hub.startswith((".", "/")) or corpus.hub.count("/") > 1
    if is_path and not path.exists():
        return f"{path}: there is no such folder (looked in {Path.cwd()})"
    return ""

"""Data sets of the Hugging Face Hub, by name or as a local folder.

The only file that imports `datasets`. Independent of the use of the pairs.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mtrain.config.corpora import HubDataset
from mtrain.errors import UserError
from mtrain.text.encoding import refuse_pointer
from mtrain.text.records import ROWS_AT_ONCE, RawPair, pairs_of, text_fields

# its advice on its own Python functions, programs and settings
ADVICE = re.compile(r"load_|trust_remote|pip |install|`datasets`|[Pp]lease|HF_|You can|[Uu]pgrade")


def hub_name(corpus: HubDataset) -> str:
    """Return a data set's name with its configuration and split."""
    return ":".join(filter(None, (corpus.hub, corpus.config, corpus.split)))


def read_hub(corpus: HubDataset, languages: tuple[str, str]) -> Iterator[RawPair]:
    """Yield every pair of a data set. Raises UserError if it cannot be loaded."""
    with _loaded(corpus) as data_set:
        for table in data_set.with_format("arrow").iter(ROWS_AT_ONCE):
            yield from pairs_of(table, corpus.fields, languages, hub_name(corpus))


def hub_fields(corpus: HubDataset) -> list[str]:
    """Return the names of the text fields of a data set. Raises UserError if it has no row."""
    with _loaded(corpus) as data_set:
        for table in data_set.with_format("arrow").iter(1):
            return text_fields(table.schema)
    raise UserError(f"data set {hub_name(corpus)}: there is not one pair in it")


def hub_fingerprint(corpus: HubDataset) -> str:
    """Return the fingerprint of the current content of a data set on the Hub."""
    with _loaded(corpus) as data_set:
        return str(data_set._fingerprint)


def hub_files(corpus: HubDataset) -> list[Path] | None:
    """Return the files of a local data set, or None for one on the Hub."""
    folder = Path(corpus.hub)
    if not folder.is_dir():
        return None
    return sorted(path for path in folder.rglob("*") if path.is_file())


@contextmanager
def _loaded(corpus: HubDataset) -> Iterator[Any]:
    """Load a data set; raise UserError for errors in loading or reading it."""
    import datasets
    import pyarrow

    datasets.disable_progress_bars()
    try:
        yield _load(corpus)
    except (
        OSError, ValueError, ImportError, pyarrow.ArrowException, datasets.exceptions.DatasetsError
    ) as error:  # fmt: skip
        for path in hub_files(corpus) or ():
            refuse_pointer(path)
        raise UserError(
            f"data set {hub_name(corpus)}: cannot be loaded ({_reason(error)})",
            "check hub, config and split; without a network, give a local folder as `hub`",
        ) from None


def _load(corpus: HubDataset) -> Any:
    """Load a data set; read a local folder without the cache of `datasets`, which confuses folders
    of the same name and misses changes."""
    import datasets

    folder = Path(corpus.hub)
    if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
        saved = datasets.load_from_disk(corpus.hub)  # what `save_to_disk` wrote
        if not isinstance(saved, datasets.DatasetDict):
            return saved
        if corpus.split not in saved:
            raise ValueError(f"it has no split {corpus.split}, but {', '.join(saved)}")
        return saved[corpus.split]
    return datasets.load_dataset(
        corpus.hub, corpus.config, split=corpus.split, streaming=folder.is_dir()
    )


def _reason(error: Exception) -> str:
    """Return the library's message without its advice, which does not apply here."""
    configs = re.search(r"available configs: \[(.*?)\]", str(error), re.DOTALL)
    if configs:
        return f"name one of its configurations as `config`: {configs[1]}"
    first_line = (str(error).splitlines() or [""])[0]
    sentences = [said for said in re.split(r"(?<=[.;]) ", first_line) if not ADVICE.search(said)]
    return " ".join(sentences) or type(error).__name__

"""The raw text of a held-out set, read again from a data folder or a run folder."""

from dataclasses import dataclass, replace
from pathlib import Path

from mtrain.errors import UserError
from mtrain.text.lines import read_lines


@dataclass(frozen=True)
class HeldOutText:
    """The raw lines of a valid, watch or test set."""

    name: str
    sources: list[bytes]
    references: list[bytes]
    documents: list[int] | None = None  # the number of each line's document, if it has documents


def read_held_out(folder: Path, name: str) -> HeldOutText:
    """Read NAME.source and NAME.target from a folder; raise UserError if line counts differ."""
    paths = [folder / f"{name}.{side}" for side in ("source", "target")]
    sources, references = (list(read_lines(path)) for path in paths)
    if len(sources) != len(references):
        raise UserError(
            f"{paths[0]} has {len(sources)} lines but {paths[1]} has {len(references)}",
            "restore both from the original folder",
        )
    return HeldOutText(name, sources, references)


def with_documents(text: HeldOutText, folder: Path) -> HeldOutText:
    """Return a set with the documents in NAME.documents; raise UserError if line counts differ."""
    path = folder / f"{text.name}.documents"
    documents = [int(line) for line in read_lines(path)]
    if len(documents) != len(text.sources):
        raise UserError(
            f"{path} has {len(documents)} lines but its text has {len(text.sources)}",
            "restore it from the original folder",
        )
    return replace(text, documents=documents)

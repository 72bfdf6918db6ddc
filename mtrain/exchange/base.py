"""The contract of an exchange format, and exports that appear whole or not at all."""

import json
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path

from mtrain.config import Config
from mtrain.errors import UserError
from mtrain.models import TranslationModel
from mtrain.text.lines import file_digests
from mtrain.text.tokenizer import TokenizerPair

DIGESTS = "digests.json"  # written last


class ExchangeFormat(ABC):
    """A format of another program."""

    name: str  # by which a model's `export_limits` says why it cannot be written in it

    @abstractmethod
    def write(
        self, folder: Path, model: TranslationModel, config: Config, tokenizers: TokenizerPair
    ) -> None:
        """Write a model into an empty folder."""


def export(
    target: ExchangeFormat,
    folder: Path,
    model: TranslationModel,
    config: Config,
    tokenizers: TokenizerPair,
) -> None:
    """Write a model in a format, under another name first; digests last, then one rename.

    Raises `UserError` if the format cannot hold this model, or the folder cannot be written.
    """
    limit = model.export_limits.get(target.name)
    if limit:
        raise UserError(
            f"{target.name} cannot run a model with {limit}", "use decoding.engine: torch"
        )
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".writing-") as writing:
            whole = Path(writing) / folder.name
            whole.mkdir()
            target.write(whole, model, config, tokenizers)
            (whole / DIGESTS).write_text(json.dumps(file_digests(whole)), "utf-8")
            whole.rename(folder)
    except PermissionError:
        raise UserError(
            f"{folder}: no permission to write the model in the format {target.name} here",
            "translate once with this engine as someone who has, or copy the run",
        ) from None
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise


def is_whole(folder: Path) -> bool:
    """Tell whether an export is what `export` wrote."""
    try:
        written: dict[str, str] = json.loads((folder / DIGESTS).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    present = file_digests(folder)
    del present[DIGESTS]
    return present == written

"""The contract of an exchange format, and atomic exports."""

import json
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from mtrain.config import Config
from mtrain.config.model import EXPORT_FORMATS, cannot_hold
from mtrain.errors import UserError
from mtrain.exchange.comparison import Replay, Sample
from mtrain.exchange.masked_comparison import MaskedReplay, MaskedSample
from mtrain.models import Model
from mtrain.models.bert import Bert
from mtrain.text.lines import file_digests
from mtrain.text.tokenizer import TokenizerPair

DIGESTS = "digests.json"  # written last


class ExchangeFormat(ABC):
    """Writes models in the format of another program."""

    name: str  # the key of this format in a model's `export_limits`
    has_card = False  # whether a model card belongs to it
    number_formats: tuple[str, ...] = ("fp32",)

    def __init__(self, weights: str = "fp32") -> None:
        if weights not in self.number_formats:
            raise UserError(
                f"{self.name} cannot be exported in {weights}",
                f"it can in {' or '.join(self.number_formats)}",
            )
        self.weights = weights

    @abstractmethod
    def write(self, folder: Path, model: Model, config: Config, tokenizers: TokenizerPair) -> None:
        """Write a model into an empty folder."""

    def replay(
        self, folder: Path, sample: Sample, config: Config, tokenizers: TokenizerPair
    ) -> Replay | None:
        """Translate a sample with the other program alone; None if it is not installed."""
        return None

    def replay_masked(self, folder: Path, sample: MaskedSample) -> MaskedReplay | None:
        """Fill masked tokens with the other program alone; None if it is not installed."""
        return None


def export(
    target: ExchangeFormat,
    folder: Path,
    model: Model,
    config: Config,
    tokenizers: TokenizerPair,
    check: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Write a model to a temporary folder, check it, add digests, then rename that to `folder`.

    Raises `UserError` if the format does not support this model, or write permission is missing.
    """
    limits = config.tokenizer.export_limits(isinstance(model, Bert)) | model.export_limits
    limit = limits.get(target.name)
    if limit:
        others = [name for name in EXPORT_FORMATS if name not in limits]
        raise UserError(
            cannot_hold(target.name, limit),
            f"{' and '.join(others) or 'mtrain alone'} can; to translate: decoding.engine: torch",
        )
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".writing-") as writing:
            whole = Path(writing) / folder.name
            whole.mkdir()
            target.write(whole, model, config, tokenizers)
            check(whole)
            (whole / DIGESTS).write_text(json.dumps(file_digests(whole)), "utf-8")
            whole.rename(folder)
    except PermissionError:
        raise UserError(
            f"{folder}: no permission to write the model in the format {target.name} here",
            "choose a folder that you can write to, or copy the run to one",
        ) from None
    except OSError:
        if not folder.is_dir():  # otherwise another process has written it
            raise


def is_whole(folder: Path) -> bool:
    """Tell whether the files of an export match the digests that `export` wrote."""
    try:
        written: dict[str, str] = json.loads((folder / DIGESTS).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    present = file_digests(folder)
    del present[DIGESTS]
    return present == written

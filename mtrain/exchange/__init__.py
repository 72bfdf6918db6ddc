"""Exchange formats: write a model for other programs.

A format is imported on first use: its library is an extra.
"""

from importlib import import_module
from importlib.util import find_spec

from mtrain.errors import UserError, missing_extra
from mtrain.exchange.base import ExchangeFormat

# name: module, class, and the package that it needs; an extra with the format's name installs it
FORMATS: dict[str, tuple[str, str, str]] = {
    "ctranslate2": ("mtrain.exchange.ctranslate2", "CTranslate2Format", "ctranslate2"),
    "huggingface": ("mtrain.exchange.huggingface", "HuggingFaceFormat", "safetensors"),
}

__all__ = ["FORMATS", "ExchangeFormat", "exchange_format"]


def exchange_format(name: str, purpose: str, weights: str = "fp32") -> ExchangeFormat:
    """Return a format by its name; error messages name `purpose`, which needs it.

    `weights` is the number format to write. Raises `UserError` if it or the name is unknown, or if
    the format's package is missing.
    """
    if name not in FORMATS:
        raise UserError(f"there is no exchange format {name}", f"known: {', '.join(FORMATS)}")
    module, kind, package = FORMATS[name]
    if find_spec(package) is None:
        raise missing_extra(package, name, purpose)
    made: ExchangeFormat = getattr(import_module(module), kind)(weights)
    return made

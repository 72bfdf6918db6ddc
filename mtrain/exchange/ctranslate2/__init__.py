"""CTranslate2: export of Transformers, and its search engine. Extra: `ctranslate2`."""

from mtrain.exchange.ctranslate2.engine import open_engine, open_export
from mtrain.exchange.ctranslate2.format import CTranslate2Format

__all__ = ["CTranslate2Format", "open_engine", "open_export"]

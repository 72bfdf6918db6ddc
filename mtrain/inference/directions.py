"""The direction of a run that translates between two languages, whatever their codes look like."""

import re

from mtrain.config import Config
from mtrain.config.corpora import Languages
from mtrain.text.languages import find_language


def direction_of(config: Config, wanted: Languages) -> Languages | None:
    """Return the direction of a run, in its own codes, that translates as wanted, if it has one.

    Codes of another form name the same language: deu and de, but not pt-PT and pt-BR.
    """
    known = config.data.directions
    if wanted in known:
        return wanted
    for languages in known:
        if all(map(_is_same_language, languages, wanted)):
            return languages
    is_imported = not config.data.train  # of a model whose vocabulary knows its languages
    return wanted if is_imported and config.tokenizer.names("target") else None


def _is_same_language(one: str, other: str) -> bool:
    regions = [re.findall(r"[-_]([A-Za-z]{2}|[0-9]{3})(?![A-Za-z0-9])", code)
               for code in (one, other)]  # fmt: skip
    return regions[0] == regions[1] and find_language(one) == find_language(other)

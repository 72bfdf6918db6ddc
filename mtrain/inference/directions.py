"""The direction of a run that translates between two languages, whatever their codes look like."""

import re

from mtrain.config import Config
from mtrain.config.corpora import Languages
from mtrain.errors import UserError
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


def require_direction(config: Config, wanted: Languages, what: str) -> Languages:
    """Return the direction of a run that translates as wanted; raise UserError if it has none.

    `what` is for these languages, and is named in the error.
    """
    languages = direction_of(config, wanted)
    if languages is None:
        known = ", ".join("-".join(each) for each in config.data.directions)
        raise UserError(
            f"{what} is for {'-'.join(wanted)}, and {config.run_dir} translates {known}",
            "name one of the same languages",
        )
    return languages


def check_same_direction(config: Config, other: Config, languages: Languages) -> None:
    """Raise UserError if another run does not translate as a run does between these languages."""
    is_known = direction_of(config, languages) is not None  # else the vocabulary decides
    theirs = direction_of(other, languages) if is_known else languages
    runs = f"{config.run_dir} and {other.run_dir}"
    if theirs is None:
        known = ", ".join(" to ".join(each) for each in other.data.directions)
        raise UserError(
            f"{runs} cannot be averaged: the first is to translate {' to '.join(languages)}, and "
            f"the second translates {known}",
            "name runs of the same direction",
        )
    if told := other_prefixes(config, languages, other, theirs):
        raise UserError(
            f"{runs} cannot be averaged: their prefixes of source and target are {told[0]}, and "
            f"{told[1]}",
            "name runs with the same tokenizer.source_prefix and tokenizer.target_prefix",
        )


def other_prefixes(
    config: Config, languages: Languages, other: Config, theirs: Languages
) -> list[str]:
    """Return the prefixes that two runs put before source and target, or nothing if they agree."""
    prefixes = config.tokenizer.prefixes(languages), other.tokenizer.prefixes(theirs)
    told = [" and ".join(" ".join(side) or "none" for side in each) for each in prefixes]
    return told if prefixes[0] != prefixes[1] else []


def _is_same_language(one: str, other: str) -> bool:
    regions = [re.findall(r"[-_]([A-Za-z]{2}|[0-9]{3})(?![A-Za-z0-9])", code)
               for code in (one, other)]  # fmt: skip
    return regions[0] == regions[1] and find_language(one) == find_language(other)

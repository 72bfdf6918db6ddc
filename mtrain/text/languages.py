"""Language codes in BCP 47, ISO 639 and FLORES forms (zh-TW, cmn, zho_Hans). No torch.

Maps a code to its language, and says whether spaces separate its words. Independent of metrics.
The only file that imports langcodes, which includes its own tables.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

import langcodes
from langcodes.registry_parser import parse_registry

from mtrain.console import warn

# Scripts without spaces between words; those of Chinese first.
HAN_SCRIPTS = frozenset(("Bopo", "Hanb", "Hani", "Hans", "Hant"))
UNSPACED_SCRIPTS = HAN_SCRIPTS | {"Hira", "Hrkt", "Jpan", "Kana", "Khmr", "Lana", "Laoo", "Mymr",
                                  "Tale", "Talu", "Tavt", "Thai", "Tibt"}  # fmt: skip


@dataclass(frozen=True)
class Language:
    """The language of a code: `base` is zh for cmn, zh-TW and zho_Hans."""

    base: str
    script: str  # ISO 15924; empty where neither the code nor CLDR names one

    @property
    def is_spaced(self) -> bool:
        """Whether spaces separate words."""
        return self.script not in UNSPACED_SCRIPTS

    @property
    def is_han(self) -> bool:
        """Whether it is Chinese, Cantonese, Wu or another language in Han characters alone."""
        return self.script in HAN_SCRIPTS


@cache
def find_language(code: str) -> Language:
    """Return the language of a code, with the script of the code or, by default, of CLDR.

    If the whole tag is unknown, only its language subtag counts. An unknown code counts as a
    language with spaces, with one warning per process.
    """
    tag = code.replace("_", "-")
    for known in (tag, tag.partition("-")[0]):
        if langcodes.tag_is_valid(known):
            language = langcodes.get(langcodes.standardize_tag(known, macro=True))
            return Language(language.language or "", language.maximize().script or "")
    nearest = _nearest(tag.lower())
    warn(
        f"{code!r} is not a known language code, it is taken for a language with spaces between "
        "words" + (f"; did you mean {nearest}?" if nearest else "")
    )
    return Language(code, "")


def _nearest(tag: str) -> str:
    """Return the code probably meant with its language's name, or an empty string."""
    registry = list(parse_registry())
    names = {entry["Subtag"]: entry["Description"][0].partition(" (")[0]
             for entry in registry if entry["Type"] == "language"}  # fmt: skip
    country = tag.upper()  # for example jp or cz
    if any(entry["Type"] == "region" and entry["Subtag"] == country for entry in registry):
        meant = langcodes.Language.make(territory=country).maximize().language
    else:
        codes = {name.lower(): code for code, name in reversed(names.items())}
        close = get_close_matches(tag, [*names, *codes], n=1, cutoff=0.75)
        meant = codes.get(close[0], close[0]) if close else None
    return f"{meant} ({names[meant]})" if meant in names else ""

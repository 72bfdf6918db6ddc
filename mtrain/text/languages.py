"""Language codes in BCP 47, ISO 639 and FLORES forms (zh-TW, cmn, zho_Hans). No torch.

Maps a code to its language, and says whether spaces separate its words. Independent of metrics.
The only file that imports langcodes, which includes its own tables.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

import langcodes
from langcodes.registry_parser import parse_registry

from mtrain.console import warn
from mtrain.errors import UserError

# Scripts without spaces between words; those of Chinese first.
HAN_SCRIPTS = frozenset(("Bopo", "Hanb", "Hani", "Hans", "Hant"))
UNSPACED_SCRIPTS = HAN_SCRIPTS | {"Hira", "Hrkt", "Jpan", "Kana", "Khmr", "Lana", "Laoo", "Mymr",
                                  "Tale", "Talu", "Tavt", "Thai", "Tibt"}  # fmt: skip

# a language code in a piece, such as <2de>, __de__, >>deu<< or deu_Latn
MARKED_CODE = re.compile(
    r"(?P<before>[^A-Za-z]*)(?P<code>[A-Za-z]{2,3}([-_][A-Za-z0-9]+)*)(?P<after>[^A-Za-z0-9]*)"
)
CODE_WITH_SCRIPT = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")


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


def is_language_code(text: str) -> bool:
    """Return whether a text is a known code: de, zh-TW, zho_Hans."""
    return langcodes.tag_is_valid(text.replace("_", "-"))


@cache
def find_language(code: str) -> Language:
    """Return the language of a code, with the script of the code or, by default, of CLDR.

    If the whole tag is unknown, only its language subtag counts. An unknown code counts as a
    language with spaces, with one warning per process.
    """
    known = _known_tag(code)
    if known is not None:
        language = langcodes.get(langcodes.standardize_tag(known, macro=True))
        return Language(language.language or "", language.maximize().script or "")
    warn(
        f"{code!r} is not a known language code, it is taken for a language with spaces between "
        f"words{_suggestion(code)}"
    )
    return Language(code, "")


def require_language(code: str, reason: str) -> None:
    """Raise UserError, with the `reason` why it matters, for an unknown code."""
    if _known_tag(code) is None:
        raise UserError(
            f"{code!r} is not a known language code, and {reason}{_suggestion(code)}",
            "qaa to qtz are free for languages of your own",
        )


def piece_of_same_language(piece: str, pieces: Iterable[str]) -> str | None:
    """Return the piece that names the same language in another form: >>deu<< for >>de<<.

    A piece that is a bare code, such as de, only means a code with a script, such as deu_Latn.
    """
    marked = MARKED_CODE.fullmatch(piece)
    if marked is None or _known_tag(marked["code"]) is None:
        return None
    form, wanted = (marked["before"], marked["after"]), find_language(marked["code"])
    for other in pieces:
        found = MARKED_CODE.fullmatch(other)
        if (
            found is not None
            and (found["before"], found["after"]) == form
            and (form != ("", "") or CODE_WITH_SCRIPT.fullmatch(found["code"]))
            and _known_tag(found["code"]) is not None
            and find_language(found["code"]) == wanted
        ):
            return other
    return None


def _known_tag(code: str) -> str | None:
    """Return the code as a valid tag, or its language subtag if that alone is valid."""
    tag = code.replace("_", "-")
    return next(filter(langcodes.tag_is_valid, (tag, tag.partition("-")[0])), None)


def _suggestion(code: str) -> str:
    nearest = _nearest(code.replace("_", "-").lower())
    return f"; did you mean {nearest}?" if nearest else ""


@cache
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

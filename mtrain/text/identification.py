"""Identifies the language of texts. The only file that imports py3langid, of the extra `langid`.

Compares languages by their base: zho_Hans and zh-TW are one.
"""

import importlib.util
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from mtrain.errors import missing_extra
from mtrain.text.languages import find_language

MAX_CHARACTERS = 200  # of a text that are looked at
MIN_LETTERS = 10  # a text of fewer is not judged
# A text is in another language if that one is at least so probable, and its own at most so. Close
# relatives share the probability: Slovak and Czech, Galician and Spanish.
MIN_OTHER, MAX_OWN = 0.4, 0.02
NO_LANGUAGE = "zxx"
# Written forms too close to be told apart, and other names of a language.
SAME = {"nb": "no", "nn": "no", "bs": "sr", "hr": "sr", "ary": "ar", "arz": "ar", "fil": "tl",
        "ms": "id", "wuu": "zh", "yue": "zh", "sdh": "ku"}  # fmt: skip


def is_installed() -> bool:
    """Return whether the extra `langid` is installed."""
    return importlib.util.find_spec("py3langid") is not None


def require_identifier(purpose: str) -> None:
    """Raise UserError if the extra `langid` is not installed."""
    if not is_installed():
        raise missing_extra("py3langid", "langid", purpose)


def identify(texts: Sequence[str], purpose: str) -> tuple[str, float]:
    """Return the code of the language that most texts are in, and the share of texts in it.

    Texts of too few letters do not count; if there is no other, returns ("", 0.0). Raises
    UserError if the extra `langid` is not installed.
    """
    require_identifier(purpose)
    judged = [text[:MAX_CHARACTERS] for text in texts if _is_long(text)]
    counts = Counter(_identifier().classify(text)[0] for text in judged)
    if not counts:
        return "", 0.0
    code, count = counts.most_common(1)[0]
    return code, count / len(judged)


def are_foreign(texts: Sequence[str], language: str) -> npt.NDArray[np.bool_]:
    """Return for each text whether it is surely in another language.

    Judges no text in a language that the identifier does not know, and none that is short.
    """
    own = _group(find_language(language).base)
    if own not in map(_group, _identifier().labels):
        return np.zeros(len(texts), bool)
    return np.array([_is_long(text) and _is_foreign(text[:MAX_CHARACTERS], own) for text in texts],
                    bool)  # fmt: skip


def _is_foreign(text: str, own: str) -> bool:
    code, probability = _identifier().classify(text)
    if _group(code) in (own, NO_LANGUAGE) or probability < MIN_OTHER:
        return False
    ranks = _identifier().rank(text)
    return bool(sum(share for code, share in ranks if _group(code) == own) <= MAX_OWN)


def _is_long(text: str) -> bool:
    return sum(map(str.isalpha, text[:MAX_CHARACTERS])) >= MIN_LETTERS


@cache
def _group(code: str) -> str:
    return SAME.get(code, code)


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

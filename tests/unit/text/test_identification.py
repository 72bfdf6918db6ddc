"""The language of a text is identified, and doubted only where that is safe."""

import importlib.util

import pytest

from mtrain.errors import UserError
from mtrain.text import identification
from mtrain.text.identification import are_foreign, identify

TEXTS = {
    "en": "This is a long sentence about the weather of yesterday.",
    "de": "Das ist ein langer Satz über das Wetter von gestern.",
    "cs": "Toto je dlouhá věta o včerejším počasí u nás doma.",
    "zh": "这是一个关于昨天天气的很长的句子我们都在家里",
}
needs_the_extra = pytest.mark.skipif(
    not identification.is_installed(), reason="needs the extra langid"
)


@needs_the_extra
def test_texts_in_another_language_are_found_whatever_form_the_code_has() -> None:
    codes = {"en": "eng_Latn", "de": "deu", "cs": "cs-CZ", "zh": "zho_Hans"}
    for own in TEXTS:
        expected = [language != own for language in TEXTS]
        assert are_foreign(list(TEXTS.values()), own).tolist() == expected
        assert are_foreign(list(TEXTS.values()), codes[own]).tolist() == expected


@needs_the_extra
def test_what_cannot_be_judged_is_not_foreign() -> None:
    for language in ("en", "nb", "xx"):
        doubtful = ["", "Kindergarten", "Bess Throckmorton?", "12 + 13 = 25 !!!", "x" * 100_000]
        assert not are_foreign(doubtful, language).any()
    assert not are_foreign([TEXTS["de"]], "xx").any()  # a language that nobody knows
    norwegian = ["Dette er en lang setning om været i går, skrevet på bokmål."]
    assert not any(are_foreign(norwegian, code).any() for code in ("nb", "no", "nn"))
    assert not are_foreign(["Ovo je duga rečenica o jučerašnjem vremenu."], "bs").any()


@needs_the_extra
def test_the_language_of_a_file_is_that_of_most_of_its_texts() -> None:
    texts = [TEXTS["de"]] * 3 + [TEXTS["en"], "kurz", ""]
    assert identify(texts, "this") == ("de", 0.75)
    assert identify(["", "kurz", "12"], "this") == ("", 0.0)
    assert identify([], "this") == ("", 0.0)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as raised:
        identify([TEXTS["de"]], "guessing")
    assert "guessing needs the package py3langid" in str(raised.value)
    assert "pip install 'mtrain[langid]'" in str(raised.value)
